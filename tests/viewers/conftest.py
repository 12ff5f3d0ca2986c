"""What the display tests share: the archive with our results in it, viewers and a browser; all end with these tests."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext
from pydicom import dcmread

from daemons import another, chest_radiographs
from viewers import dwv, ohif
from viewers.browser import chromium
from viewers.packages import package
from viewers.pictures import Pictures
from viewers.proxy import proxy
from viewers.site import Hospital, hospital

#: The name of a radiograph with pixels twice as high as wide.
TALL_PIXELS = "tall-pixels-cr"


@pytest.fixture(scope="package")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Give the archive after the demo's radiographs went through the daemon, by way of a destination for viewers."""
    images = {path.stem: path for path in chest_radiographs()}
    images[TALL_PIXELS] = _with_tall_pixels(images["10-juniper-cr"], tmp_path_factory.mktemp("tall"))
    folder = tmp_path_factory.mktemp("hospital")
    with hospital(folder, images, like="ohif", objects=["SEG", "PR", "SC", "SR", "KO"]) as filled:
        yield filled


def _with_tall_pixels(path: Path, folder: Path) -> Path:
    """Every second row of a radiograph, and pixels that are twice as high (PS3.3 C.7.6.3.1.7)."""
    ds = dcmread(path)
    rows = ds.pixel_array[::2]
    return another(path, folder, Rows=rows.shape[0], PixelData=rows.tobytes(), PixelAspectRatio=[2, 1])


@pytest.fixture(scope="package")
def ohif_addresses(ward: Hospital) -> Iterator[dict[str, str]]:
    """Serve each version of OHIF; gives where."""
    with ExitStack() as stack:
        yield {
            version: stack.enter_context(proxy(ward.pacs, package(ohif.NAME, version), ohif.FILES))
            for version in (ohif.OLDER, ohif.NEWER)
        }


@pytest.fixture(scope="package")
def dwv_address(ward: Hospital) -> Iterator[str]:
    """Serve dwv; gives where."""
    with proxy(ward.pacs, package(dwv.NAME, dwv.VERSION), dwv.files()) as served:
        yield served


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Give a browser that keeps what it has fetched and compiled."""
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="package")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Give the folder of what was seen, to be looked at by a person."""
    return Pictures.by_environment(tmp_path_factory.mktemp("pictures"))
