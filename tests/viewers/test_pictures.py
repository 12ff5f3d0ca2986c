"""A Secondary Capture is a picture: OHIF and dwv show it pixel by pixel, its colours where the masks are."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext

from viewers import dwv
from viewers.browser import PAINTED_ALONE, Look
from viewers.conftest import TALL_PIXELS
from viewers.dwv import Dwv
from viewers.ohif import NEWER, OLDER, Ohif
from viewers.overlay import agreement
from viewers.pictures import Pictures
from viewers.site import Hospital, Shown

pytestmark = [pytest.mark.viewers, pytest.mark.timeout(600)]

SOME = ["04-dogwood-dx", "07-fir-dx-monochrome1", TALL_PIXELS]
#: Areas are laid over the radiograph thinly, and nothing was lost on the way: less than this is grey.
FAINT = 6
#: Mean difference of a pixel on the page and in the object, of 255: letters are thin, and a page's pixels are others.
APART = 4
#: How much a viewer may cut off at a side, in pixels of the page.
FIT = 2


def difference(seen: Look, rgb_HWC: NDArray[np.uint8]) -> float:
    """How far what is shown is from an object's own pixels, on average over all of its place."""
    inside = seen.place.sampled(np.ones(rgb_HWC.shape[:2], bool), seen.picture.shape).astype(bool)
    expected = np.stack([seen.place.sampled(rgb_HWC[..., channel], inside.shape) for channel in range(3)], axis=2)
    return float(np.abs(expected.astype(int) - seen.picture)[inside].mean())


def require_whole(seen: Look, shape: tuple[int, ...]) -> None:
    """All of the picture is in what is shown, with the band of notes below the radiograph."""
    rows, columns = shape[:2]
    (left, top), (height, width) = seen.place.origin, seen.picture.shape[:2]
    assert left >= -FIT
    assert top >= -FIT
    assert left + columns * seen.place.column_step[0] <= width + FIT
    assert top + rows * seen.place.row_step[1] <= height + FIT


def masks_on(shown: Shown, capture: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the SEG's masks are on the picture: the radiograph is at its top, as wide, in square pixels."""
    masks = shown.masks()
    high, wide = shown.image.get("PixelAspectRatio", (1, 1))
    height = round(capture[1] * masks.shape[1] * high / (masks.shape[2] * wide))
    scaled = [Image.fromarray(mask_HW).resize((capture[1], height), Image.Resampling.NEAREST) for mask_HW in masks]
    return np.stack([np.pad(np.asarray(each), ((0, capture[0] - height), (0, 0))) for each in scaled])


def require_same(seen: Look, shown: Shown, name: str) -> None:
    """What is shown is the object, and its colours are where the masks are."""
    rgb_HWC = np.asarray(shown.made["OT"].pixel_array)
    require_whole(seen, rgb_HWC.shape)
    grey = np.zeros_like(seen.picture)
    found = agreement(grey, seen.picture, masks_on(shown, rgb_HWC.shape), seen.place, more_than=FAINT)
    print(f"{name}: picture {difference(seen, rgb_HWC):.2f} of 255 apart; {found}")  # noqa: T201 - to be read with -rP
    assert difference(seen, rgb_HWC) < APART
    assert min(found.overall, *found.structures) >= 0.9


@pytest.mark.parametrize(("version", "name"), [*((NEWER, name) for name in SOME), (OLDER, SOME[0])])
def test_ohif_shows_a_secondary_capture(
    ohif_addresses: dict[str, str],
    browser: BrowserContext,
    ward: Hospital,
    pictures: Pictures,
    version: str,
    name: str,
) -> None:
    """It is opened from the study panel like any image, and shown whole."""
    shown, title = ward.shown[name], f"ohif-{version}-{name}-sc"
    uid = str(shown.made["OT"].SOPInstanceUID)
    with Ohif.of(browser, ohif_addresses[version], shown.study) as viewer:
        viewer.open(uid)
        rgb_HWC = np.asarray(shown.made["OT"].pixel_array)
        seen: list[Look] = []

        def there() -> bool:
            look = viewer.look(uid, style=PAINTED_ALONE)
            seen.extend([look] if look else [])
            return look is not None and difference(look, rgb_HWC) < APART

        viewer.until(there, what="the picture is shown")
        pictures.take(viewer.page, title)
        require_same(seen[-1], shown, title)
        assert viewer.errors == []


@pytest.mark.parametrize("name", SOME)
def test_dwv_shows_a_secondary_capture(
    dwv_address: str, browser: BrowserContext, ward: Hospital, pictures: Pictures, name: str
) -> None:
    """It is loaded like any image, and shown whole."""
    shown, title = ward.shown[name], f"dwv-{dwv.VERSION}-{name}-sc"
    with Dwv.of(browser, dwv_address) as viewer:
        seen = viewer.look(viewer.load(ward.instance(shown.made["OT"])))
        pictures.take(viewer.page, title)
        require_same(seen, shown, title)
        assert viewer.errors() == []
