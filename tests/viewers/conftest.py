"""What the display tests share: the archive with our results in it, and a browser; both end with these tests."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from daemons import chest_radiographs
from viewers.browser import chromium
from viewers.pictures import Pictures
from viewers.site import Hospital, hospital


@pytest.fixture(scope="package")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Give the archive after the demo's radiographs went through the daemon, by way of a destination for viewers."""
    with hospital(tmp_path_factory.mktemp("hospital"), chest_radiographs(), profile="ohif") as filled:
        yield filled


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Give a browser that keeps what it has fetched and compiled."""
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="package")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Give the folder of what was seen, to be looked at by a person."""
    return Pictures.by_environment(tmp_path_factory.mktemp("pictures"))
