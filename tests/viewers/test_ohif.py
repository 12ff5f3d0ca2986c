"""OHIF draws lungs and heart where the masks are, and opens the report, in each of its release lines."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, ViewportSize

import builders
from cxr_triage.model.findings import Zone
from daemons import chest_radiographs
from viewers.browser import Look
from viewers.copies import another_study
from viewers.expected import numbers, probabilities
from viewers.ohif import NEWER, OLDER, Ohif
from viewers.overlay import Agreement, agreement, coloured, likeness
from viewers.pictures import Pictures
from viewers.site import Hospital, Shown

pytestmark = [pytest.mark.viewers, pytest.mark.timeout(1200)]

#: Two images of one series.
PAIR = ["05-elder-cr-a", "06-elder-cr-b"]
ALL = [path.stem for path in chest_radiographs() if path.stem not in PAIR]
#: DX in JPEG 2000, CR in RLE, MONOCHROME1.
SOME = ["02-birch-cr", "04-dogwood-dx", "07-fir-dx-monochrome1"]
#: Correlation of what is shown with the image itself, at the image's place. Shifted by two pixels it is below that.
SAME_IMAGE = 0.95
DRAWN = 0.9
#: Of a reading room: in narrower ones the viewport cuts long labels off at its right edge.
WIDE = ViewportSize(width=1920, height=1080)
ERRORS = ("Something went wrong", "Error", "error", "Failed")


def show_image(viewer: Ohif, shown: Shown, *, opens: bool = True) -> Look:
    """Open a radiograph, and wait until it stands where the viewer says that it does."""
    uid = str(shown.image.SOPInstanceUID)
    if opens:
        viewer.open(uid)

    def there() -> bool:
        seen = viewer.look(uid)
        return seen is not None and likeness(seen.picture, shown.brightness(), seen.place) > SAME_IMAGE

    viewer.until(there, what="the radiograph is shown")
    seen = viewer.look(uid)
    assert seen is not None
    return seen


def show_masks(viewer: Ohif, shown: Shown, before: Look) -> Agreement:
    """Open its SEG, and wait until the colour that came is where the masks are; gives the figures."""
    uid = str(shown.image.SOPInstanceUID)
    viewer.open(str(shown.seg.SOPInstanceUID))
    viewer.agree("Do you want to open this Segmentation?")
    last: list[Agreement] = []

    def drawn() -> bool:
        after = viewer.look(uid)
        if after is None or after.picture.shape != before.picture.shape:
            return False
        last.append(agreement(before.picture, after.picture, shown.masks(), after.place))
        return last[-1].overall >= DRAWN and min(last[-1].structures) >= DRAWN

    viewer.until(drawn, what=f"masks are drawn in their places, last {last[-1:]}")
    return last[-1]


def show_report(viewer: Ohif, about: Sequence[Shown]) -> None:
    """Open a study's SR, and wait until all of its numbers stand on the page: those about the image that is shown."""
    viewer.open(str(about[0].sr.SOPInstanceUID))
    expected = [numbers(shown.sr, str(shown.image.SOPInstanceUID)) for shown in about]
    assert all(expected)

    def written() -> bool:
        return sorted(line for label in viewer.labels() for line in label.numbers) in expected

    viewer.until(written, what=f"{expected} among {viewer.labels()}")


def require_draws(viewer: Ohif, shown: Shown, pictures: Pictures, name: str, siblings: Sequence[Shown] = ()) -> None:
    """Look at image, masks and report, one after the other; with its siblings, it is all of its study."""
    before = show_image(viewer, shown)
    print(f"{name}: {show_masks(viewer, shown, before)}")  # noqa: T201 - to be read with -rP
    pictures.take(viewer.page, f"{name}-seg")
    show_report(viewer, [shown, *siblings])
    pictures.take(viewer.page, f"{name}-sr")
    assert [word for word in ERRORS if word in viewer.text()] == []
    assert viewer.errors == []


@pytest.mark.parametrize(("version", "name"), [(NEWER, name) for name in ALL] + [(OLDER, name) for name in SOME])
def test_ohif_draws_masks_and_opens_the_report(
    ohif_addresses: dict[str, str], browser: BrowserContext, ward: Hospital, pictures: Pictures, version: str, name: str
) -> None:
    """Colour is where the SEG's masks are, each structure in its own, and all numbers of the SR are on the page."""
    shown = ward.shown[name]
    with Ohif.of(browser, ohif_addresses[version], shown.study) as viewer:
        require_draws(viewer, shown, pictures, f"ohif-{version}-{name}")


@pytest.mark.parametrize("name", PAIR)
def test_ohif_never_draws_masks_on_the_other_image_of_a_series(
    ohif_addresses: dict[str, str], browser: BrowserContext, ward: Hospital, pictures: Pictures, name: str
) -> None:
    """OHIF looks up a SEG's image by the series alone: it draws the masks in their place, or, a fault, not at all.

    Which of two images it takes depends on what it heard of first, so that neither SEG fails in every run.
    """
    shown = ward.shown[name]
    (other,) = (ward.shown[each] for each in PAIR if each != name)
    with Ohif.of(browser, ohif_addresses[NEWER], shown.study) as viewer:
        show_image(viewer, shown)
        taken = viewer.image_of(str(shown.seg.SOPInstanceUID))
        print(f"ohif-{NEWER}-{name}: its SEG is taken to be about {taken}")  # noqa: T201 - to be read with -rP
        if taken == shown.image.SOPInstanceUID:
            require_draws(viewer, shown, pictures, f"ohif-{NEWER}-{name}", siblings=[other])
            return
        assert taken == other.image.SOPInstanceUID
        viewer.open(str(shown.seg.SOPInstanceUID))
        viewer.agree("Do you want to open this Segmentation?")
        viewer.until(lambda: viewer.segments() > 0, what="the SEG is open")
        after = show_image(viewer, other, opens=False)
        assert coloured(np.zeros_like(after.picture), after.picture).mean() < 0.001


@pytest.mark.parametrize("version", [OLDER, NEWER])
def test_ohif_writes_every_finding_where_it_can_be_read(
    ohif_addresses: dict[str, str],
    browser: BrowserContext,
    ward: Hospital,
    pictures: Pictures,
    version: str,
) -> None:
    """Five findings, of which some lie at the same place, on lungs that fill the image: no label touches another."""
    findings = (
        builders.finding("Effusion"),
        builders.finding("Pneumothorax"),
        replace(builders.finding("Pneumonia"), zone=Zone("left_lung")),
        replace(builders.finding("Cardiomegaly"), zone=Zone("heart")),
        builders.finding("Consolidation"),
    )
    shown = another_study(ward, ward.shown["04-dogwood-dx"], findings=findings)
    with Ohif.of(browser, ohif_addresses[version], shown.study) as viewer:
        viewer.page.set_viewport_size(WIDE)
        show_image(viewer, shown)
        show_report(viewer, [shown])
        labels, viewport = viewer.labels(), viewer.viewport()
        pictures.take(viewer.page, f"ohif-{version}-five-findings")
    named = [line for label in labels for line in label.numbers]
    assert set(probabilities(shown.sr, str(shown.image.SOPInstanceUID))) <= set(named)
    assert [(one.lines, other.lines) for one, other in combinations(labels, 2) if one.touches(other)] == []
    assert [label.lines for label in labels if not label.is_within(viewport)] == []
