"""Key Object Selections, which no viewer here has a page for, do no harm; DCMTK's page of one says what it must."""

import subprocess
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import BrowserContext

from cxr_triage.daemon.display.ohif import OHIF
from cxr_triage.daemon.display.rules import judge
from viewers.browser import opened
from viewers.dwv import Dwv
from viewers.ohif import NEWER, OLDER, Ohif
from viewers.overlay import likeness
from viewers.pictures import Pictures
from viewers.site import Hospital

pytestmark = [pytest.mark.viewers, pytest.mark.timeout(600)]

DSR2HTML: Final = "/usr/bin/dsr2html"
NAME: Final = "04-dogwood-dx"


@pytest.mark.parametrize("version", [NEWER, OLDER])
def test_ohif_lists_key_objects_and_presentation_states_with_a_warning(
    ohif_addresses: dict[str, str], browser: BrowserContext, ward: Hospital, version: str
) -> None:
    """It has no page for them, as `explain-display` says; a double click on one opens nothing, and breaks nothing."""
    shown = ward.shown[NAME]
    with Ohif.of(browser, ohif_addresses[version], shown.study) as viewer:
        uid = str(shown.image.SOPInstanceUID)
        viewer.open(uid)
        for modality, made in shown.made.items():
            assert viewer.cannot_show(str(made.SOPInstanceUID)) == (modality in {"KO", "PR"})
            assert judge(OHIF, made).known == (modality not in {"KO", "PR"})
        viewer.open(str(shown.made["KO"].SOPInstanceUID))
        viewer.open(str(shown.made["PR"].SOPInstanceUID))

        def still_there() -> bool:
            seen = viewer.look(uid)
            return seen is not None and likeness(seen.picture, shown.brightness(), seen.place) > 0.95

        viewer.until(still_there, what="the radiograph is still shown")
        assert viewer.failed() == []


@pytest.mark.parametrize("modality", ["KO", "PR"])
def test_dwv_makes_nothing_of_key_objects_and_presentation_states(
    dwv_address: str, browser: BrowserContext, ward: Hospital, modality: str
) -> None:
    """It loads them without a word, and shows the radiograph as before."""
    shown = ward.shown[NAME]
    with Dwv.of(browser, dwv_address) as viewer:
        image = viewer.load(ward.instance(shown.image))
        before = viewer.look(image)
        viewer.load(ward.instance(shown.made[modality]))
        assert viewer.errors() == []
        assert (viewer.look(image).picture == before.picture).all()


def test_dcmtk_shows_a_key_object_selection(
    browser: BrowserContext, ward: Hospital, tmp_path: Path, pictures: Pictures
) -> None:
    """Its page has the title, what is said of the images, and a link to each object that is selected."""
    key = ward.shown[NAME].made["KO"]
    document, page_file = tmp_path / "key.dcm", tmp_path / "key.html"
    key.save_as(document, enforce_file_format=True)
    subprocess.run([DSR2HTML, document, page_file], check=True, capture_output=True)
    with opened(browser) as page:
        page.set_content(page_file.read_text(encoding="utf-8"))
        pictures.take(page, f"dsr2html-{NAME}-ko")
        text = " ".join(page.inner_text("body").split())
        links = page.eval_on_selector_all("a[href*='dicom.cgi']", "all => all.map(each => each.href)")
    assert key.ConceptNameCodeSequence[0].CodeMeaning in text
    said = [str(item.TextValue) for item in key.ContentSequence if item.ValueType == "TEXT"]
    assert [words for words in said if " ".join(words.split()) not in text] == []
    images = [item for item in key.ContentSequence if "ReferencedSOPSequence" in item]
    selected = {str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in images}
    assert {link.rpartition("+")[2] for link in links} == selected
    assert str(ward.shown[NAME].image.SOPInstanceUID) in selected
