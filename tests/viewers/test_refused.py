"""What `cxr-triage explain-display` says no to, OHIF does not draw: the rules are tried with the viewer itself."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext
from pydicom import Dataset, dcmread

from cxr_triage.daemon.display.ohif import OHIF
from cxr_triage.daemon.display.rules import judge
from daemons import DCMTK_OPTIONS, another, radiographs
from peers import storescu
from viewers import ohif
from viewers.browser import PAINTED_ALONE
from viewers.ohif import NEWER, OLDER, Ohif
from viewers.overlay import likeness
from viewers.packages import package
from viewers.pictures import Pictures
from viewers.proxy import proxy
from viewers.site import Hospital, Shown, hospital

pytestmark = [pytest.mark.viewers, pytest.mark.timeout(600)]

NAME = "04-dogwood-dx"


def radiograph() -> Path:
    """The demo's file."""
    (path,) = (path for path in radiographs() if path.stem == NAME)
    return path


def refused_by(ds: Dataset) -> set[str]:
    """Names of the rules that an object fails for OHIF."""
    return {finding.rule for finding in judge(OHIF, ds).findings if not finding.ok}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Give an archive with results by the standard alone, of one radiograph."""
    with hospital(tmp_path_factory.mktemp("plain"), {NAME: radiograph()}, like="air", objects=["SEG", "SR"]) as filled:
        yield filled


@pytest.fixture(scope="module")
def plain_addresses(plain: Hospital) -> Iterator[dict[str, str]]:
    """Serve each version of OHIF with it; gives where."""
    with ExitStack() as stack:
        yield {
            version: stack.enter_context(proxy(plain.pacs, package(ohif.NAME, version), ohif.FILES))
            for version in (OLDER, NEWER)
        }


@pytest.mark.parametrize("version", [NEWER, OLDER])
def test_ohif_blanks_a_measurement_group_without_a_coordinate(
    plain: Hospital, plain_addresses: dict[str, str], browser: BrowserContext, pictures: Pictures, version: str
) -> None:
    """Nothing is left where the image was; the profile `ohif` has a coordinate in every group."""
    shown = plain.shown[NAME]
    assert refused_by(shown.sr) == {"sr-coordinates"}
    with Ohif.of(browser, plain_addresses[version], shown.study) as viewer:
        viewer.open(str(shown.sr.SOPInstanceUID))
        viewer.until(lambda: any("ReferencedSOPSequence" in error for error in viewer.failed()), what="it throws")
        viewer.until(lambda: viewer.look("") is None, what="the image is gone")
        pictures.take(viewer.page, f"ohif-{version}-{NAME}-sr-air")
        assert "Probability" not in viewer.text()


@pytest.mark.parametrize("version", [NEWER, OLDER])
def test_ohif_blanks_the_page_for_a_seg_without_a_plane(
    plain: Hospital, plain_addresses: dict[str, str], browser: BrowserContext, version: str
) -> None:
    """The profile `ohif` gives it one."""
    shown = plain.shown[NAME]
    assert "seg-plane-orientation" in refused_by(shown.seg)
    with Ohif.of(browser, plain_addresses[version], shown.study) as viewer:
        viewer.open(str(shown.seg.SOPInstanceUID))
        viewer.until(lambda: viewer.text().strip() == "", what="the page is blank")


@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
def test_ohif_has_no_window_for_a_voi_lut_function_since_3_13(
    ohif_addresses: dict[str, str],
    browser: BrowserContext,
    ward: Hospital,
    tmp_path: Path,
    function: str,
) -> None:
    """3.12.10 draws the image, 3.13.2 throws; whether it then shows anything of it is up to the moment."""
    image = stored(ward, another(radiograph(), tmp_path, VOILUTFunction=function))
    assert refused_by(image) == {"image-voi-function"}
    uid, brightness = str(image.SOPInstanceUID), Shown(image=image, made={}).brightness()
    with Ohif.of(browser, ohif_addresses[OLDER], str(image.StudyInstanceUID)) as viewer:

        def drawn() -> bool:
            seen = viewer.look(uid, style=PAINTED_ALONE)
            return seen is not None and likeness(seen.picture, brightness, seen.place) > 0.95

        viewer.until(drawn, what="the older version draws it")
        assert viewer.failed() == []
        assert "W:" in viewer.text()
    with Ohif.of(browser, ohif_addresses[NEWER], str(image.StudyInstanceUID)) as viewer:
        viewer.until(lambda: "Error: Invalid VOI LUT function" in viewer.failed(), what="the newer version throws")
        assert "W:" not in viewer.text()


def stored(ward: Hospital, path: Path) -> Dataset:
    """Put an image into the archive; gives it."""
    image = dcmread(path)
    option = DCMTK_OPTIONS[image.file_meta.TransferSyntaxUID]
    assert storescu(ward.pacs.dicom_port, path, options=["-R", option], called="PACS").returncode == 0
    return image
