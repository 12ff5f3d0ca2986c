"""Debian's Chromium without a window, driven by Playwright; what it shows, as pixels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import floor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, FloatRect, Page, ViewportSize, sync_playwright

from peers import LOOPBACK
from viewers.overlay import Place

#: By absolute path: Playwright would look for a browser of its own making.
CHROMIUM: Final = "/usr/bin/chromium"
#: WebGL 2 on a machine without a graphics card.
OPTIONS: Final = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
#: One device pixel per CSS pixel, everywhere.
SIZE: Final = ViewportSize(width=1280, height=900)
#: Until a page shows something, drawn by the processor of a machine that is busy with other things.
PATIENCE_MS: Final = 120_000


@contextmanager
def chromium(profile: Path) -> Iterator[BrowserContext]:
    """Run a browser until the end of the block; in the folder it keeps a viewer's scripts as it compiled them."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            args=[*OPTIONS, "--no-sandbox"],
            viewport=SIZE,
            timeout=PATIENCE_MS,
        )
        try:
            browser.set_default_timeout(PATIENCE_MS)
            # Viewers ask for fonts and the like out there; what a test shows must not depend on that.
            browser.route(_is_elsewhere, lambda route: route.abort())
            yield browser
        finally:
            browser.close()


def _is_elsewhere(address: str) -> bool:
    return not address.startswith((f"http://{LOOPBACK}:", "blob:", "data:"))


@contextmanager
def opened(browser: BrowserContext) -> Iterator[Page]:
    """Open an empty tab; it is closed at the end of the block."""
    page = browser.new_page()
    try:
        yield page
    finally:
        page.close()


@dataclass(frozen=True, kw_only=True)
class Look:
    """A part of a page that shows an image, and where in it the image is."""

    #: (row, column, RGB).
    picture: NDArray[np.uint8]
    place: Place


#: Nothing but what is painted: not what a viewer writes over an image.
PAINTED_ALONE: Final = "* { visibility: hidden !important } canvas { visibility: visible !important }"


def look(
    page: Page, box: Mapping[str, float], points: Sequence[tuple[float, float]], *, between: int, style: str = ""
) -> Look:
    """Take a picture of a part of a page.

    Args:
        page: the tab.
        box: x, y, width and height of the part.
        points: where the page has the centre of the image's first pixel, of one to its right and of one below it.
        between: how many pixels of the image these two are away from the first.
        style: of the page while it is looked at.
    """
    left, top = floor(box["x"]), floor(box["y"])
    clip = FloatRect(x=left, y=top, width=floor(box["width"]), height=floor(box["height"]))
    with Image.open(BytesIO(page.screenshot(clip=clip, style=style))) as image:
        picture = np.asarray(image.convert("RGB"))
    (x, y), (right_x, right_y), (below_x, below_y) = points
    place = Place(
        # A page counts from the edge of its first pixel, an array from that pixel's centre.
        origin=(x - left - 0.5, y - top - 0.5),
        column_step=((right_x - x) / between, (right_y - y) / between),
        row_step=((below_x - x) / between, (below_y - y) / between),
    )
    return Look(picture=picture, place=place)
