"""dwv: a page of its library, what it is asked to load, and what it then shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from playwright.sync_api import BrowserContext, Page

from viewers.browser import Look, look, opened
from viewers.packages import package

NAME, VERSION = "dwv", "0.36.4"
#: What dwv draws annotations with.
KONVA: Final = ("konva", "10.2.4")
#: It is done with a file when it has loaded it, or said what is wrong with it.
_DONE: Final = """data => window.tested.happened
    .some(each => ["load", "error"].includes(each.type) && each.data === data)"""


def files() -> dict[str, str]:
    """Give what is served besides its own files, by path."""
    page = Path(__file__).with_name("dwv.html")
    konva = package(*KONVA).with_name("konva.min.js")
    return {"": page.read_text(encoding="utf-8"), konva.name: konva.read_text(encoding="utf-8")}


class Dwv:
    """An empty viewer in a tab."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self._address = address
        #: What its scripts threw and nobody caught.
        self.uncaught: list[str] = []
        page.on("pageerror", lambda error: self.uncaught.append(str(error)))
        page.goto(f"{address}/")
        page.wait_for_function("window.tested")

    @classmethod
    @contextmanager
    def of(cls, browser: BrowserContext, address: str) -> Iterator[Self]:
        """Open it."""
        with opened(browser) as page:
            yield cls(page, address)

    def load(self, instance: str) -> str:
        """Load a file by its number in Orthanc; gives what the viewer calls it."""
        data = self.page.evaluate(
            "address => window.tested.load(address)", f"{self._address}/instances/{instance}/file"
        )
        self.page.wait_for_function(_DONE, arg=data)
        # What it then draws, it draws before the next two frames.
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return str(data)

    def errors(self) -> list[str]:
        """Everything that went wrong."""
        reported = self.page.evaluate("window.tested.happened.filter(each => each.error).map(each => each.error)")
        return [*map(str, reported), *self.uncaught]

    def look(self, data: str) -> Look:
        """What it shows, and where an image is in it."""
        shown = self.page.evaluate("data => window.tested.shown(data)", data)
        return look(self.page, shown["box"], shown["points"], between=100)

    def annotations(self, data: str) -> int:
        """How many annotations it read from a report."""
        count = "data => window.tested.app.getData(data)?.annotationGroup?.getList().length ?? 0"
        return int(self.page.evaluate(count, data))
