"""dwv draws lungs and heart where the masks are, and the report's boxes."""

import pytest
from playwright.sync_api import BrowserContext

from daemons import chest_radiographs
from viewers import dwv
from viewers.dwv import Dwv
from viewers.overlay import agreement, coloured, likeness
from viewers.pictures import Pictures
from viewers.site import Hospital

pytestmark = [pytest.mark.viewers, pytest.mark.timeout(1200)]

#: It has no decoder for these.
JPEG_LS = ["03-cedar-cr", "09-hazel-cr"]
OTHERS = [path.stem for path in chest_radiographs() if path.stem not in JPEG_LS]


@pytest.mark.parametrize("name", OTHERS)
def test_dwv_draws_masks_and_takes_the_report(
    dwv_address: str, browser: BrowserContext, ward: Hospital, pictures: Pictures, name: str
) -> None:
    """Colour is where the SEG's masks are, each structure in its own; the SR adds annotations and breaks nothing."""
    shown = ward.shown[name]
    with Dwv.of(browser, dwv_address) as viewer:
        data = viewer.load(ward.instance(shown.image))
        before = viewer.look(data)
        assert likeness(before.picture, shown.brightness(), before.place) > 0.99
        viewer.load(ward.instance(shown.seg))
        assert viewer.errors() == []
        after = viewer.look(data)
        found = agreement(before.picture, after.picture, shown.masks(), after.place)
        print(f"dwv-{dwv.VERSION}-{name}: {found}")  # noqa: T201 - to be read with -rP
        assert found.overall >= 0.9
        assert min(found.structures) >= 0.9
        report = viewer.load(ward.instance(shown.sr))
        assert viewer.annotations(report) > 0
        assert viewer.errors() == []
        pictures.take(viewer.page, f"dwv-{dwv.VERSION}-{name}")
        final = viewer.look(data)
        # Its lines are drawn over the masks, and take little of them.
        masked = coloured(before.picture, after.picture)
        assert coloured(before.picture, final.picture)[masked].mean() >= 0.9


@pytest.mark.parametrize("name", JPEG_LS)
def test_dwv_has_no_decoder_for_jpeg_ls(dwv_address: str, browser: BrowserContext, ward: Hospital, name: str) -> None:
    """A limit of its own, for which these radiographs are not among the ones above."""
    with Dwv.of(browser, dwv_address) as viewer:
        viewer.load(ward.instance(ward.shown[name].image))
        (error,) = viewer.errors()
        assert "Unsupported DICOM transfer syntax: '1.2.840.10008.1.2.4.80'" in error
