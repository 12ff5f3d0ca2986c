"""OHIF: its settings, how a person opens a study, SEG and SR in it, and what it then says and shows."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from playwright.sync_api import BrowserContext, Page

from viewers.browser import PATIENCE_MS, Look, look, opened

NAME: Final = "@ohif/app"
OLDER, NEWER = "3.12.10", "3.13.2"
_SOURCE: Final = {
    "friendlyName": "Orthanc",
    "name": "orthanc",
    "qidoRoot": "/dicom-web",
    "wadoRoot": "/dicom-web",
    "wadoUriRoot": "/wado",
    # Orthanc 1.10 ignores a list of fields.
    "qidoSupportsIncludeField": False,
    "imageRendering": "wadors",
    "thumbnailRendering": "wadors",
    "omitQuotationForMultipartRequest": True,
    "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
}
_SETTINGS: Final = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "showStudyList": True,
    "showErrorDetails": "always",
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "orthanc",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "orthanc",
            "configuration": _SOURCE,
        }
    ],
}
#: In place of the files that the package brings.
FILES: Final = {"app-config.js": f"window.config = {json.dumps(_SETTINGS)};"}

#: What the viewport shows, where it stands on the page, and where the centres of three of the image's pixels are.
_VIEWPORT: Final = """() => {
    const viewport = window.cornerstone?.getEnabledElements()[0]?.viewport;
    const shown = viewport?.getImageData?.();
    if (!shown) return null;
    const {x, y, width, height} = viewport.canvas.getBoundingClientRect();
    const at = (...index) => {
        const [right, down] = viewport.worldToCanvas(shown.imageData.indexToWorld([...index, 0]));
        return [x + right, y + down];
    };
    const image = viewport.getCurrentImageId() ?? "";
    return {image, box: {x, y, width, height}, points: [at(0, 0), at(100, 0), at(0, 100)]};
}"""
#: The study panel's entry of an instance.
_ENTRY: Final = """uid => {
    const all = window.services?.displaySetService?.getActiveDisplaySets() ?? [];
    const about = set => set.SOPInstanceUID === uid || set.instances?.some(each => each.SOPInstanceUID === uid);
    return all.find(about)?.displaySetInstanceUID ?? null;
}"""
#: Whether OHIF lists an instance as one that it cannot show.
_UNSUPPORTED: Final = """uid => {
    const about = set => set.SOPInstanceUID === uid || set.instances?.some(each => each.SOPInstanceUID === uid);
    return window.services.displaySetService.getActiveDisplaySets().some(set => set.unsupported && about(set));
}"""
#: What failed while nobody was waiting for it: the browser does not count these among uncaught errors.
_REJECTED: Final = """window.rejected = [];
window.addEventListener("unhandledrejection", event => window.rejected.push(String(event.reason)));"""
_TAKEN: Final = """uid => {
    const all = window.services?.displaySetService?.getActiveDisplaySets() ?? [];
    const taken = all.find(set => set.SOPInstanceUID === uid)?.referencedDisplaySetInstanceUID;
    return all.find(set => set.displaySetInstanceUID === taken)?.instances[0].SOPInstanceUID ?? null;
}"""
#: Over all segmentations that it has taken in.
_SEGMENTS: Final = """() => (window.services?.segmentationService?.getSegmentations() ?? [])
    .reduce((sum, each) => sum + Object.keys(each.segments ?? {}).length, 0)"""
#: Of each label of a report: its lines of text, and where they stand.
_LABELS: Final = """() => [...document.querySelectorAll("svg.svg-layer text")].map(text => {
    const {x, y, width, height} = text.getBoundingClientRect();
    return {lines: [...text.querySelectorAll("tspan")].map(each => each.textContent), box: {x, y, width, height}};
}).filter(label => label.lines.length > 0)"""
#: How a line begins that names a finding's site (Finding Site, SCT).
SITE: Final = "363698007: "


@dataclass(frozen=True, kw_only=True)
class Label:
    """What a viewport writes of one measurement group."""

    lines: tuple[str, ...]
    #: x, y, width and height on the page.
    box: dict[str, float]

    @property
    def numbers(self) -> list[str]:
        """Its lines without those that name a site."""
        return [line for line in self.lines if not line.startswith(SITE)]

    def touches(self, other: "Label") -> bool:
        """Whether they share a pixel."""
        mine, its = self.box, other.box
        across = min(mine["x"] + mine["width"], its["x"] + its["width"]) - max(mine["x"], its["x"])
        down = min(mine["y"] + mine["height"], its["y"] + its["height"]) - max(mine["y"], its["y"])
        return across > 0 and down > 0

    def is_within(self, box: Mapping[str, float]) -> bool:
        """Whether all of it is seen in a part of the page."""
        across = box["x"] <= self.box["x"] and self.box["x"] + self.box["width"] <= box["x"] + box["width"]
        down = box["y"] <= self.box["y"] and self.box["y"] + self.box["height"] <= box["y"] + box["height"]
        return across and down


class Ohif:
    """One study, open in a tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        #: What its scripts threw and nobody caught.
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @classmethod
    @contextmanager
    def of(cls, browser: BrowserContext, address: str, study: str) -> Iterator[Self]:
        """Open a study."""
        with opened(browser) as page:
            # Its guided tour would lie over the first image.
            page.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
            page.add_init_script(_REJECTED)
            viewer = cls(page)
            page.goto(f"{address}/viewer?StudyInstanceUIDs={study}")
            yield viewer

    def text(self) -> str:
        """Everything that stands on the page."""
        return self.page.inner_text("body")

    def look(self, image: str, *, style: str = "") -> Look | None:
        """What the viewport shows, if it is that image."""
        shown = self.page.evaluate(_VIEWPORT)
        if shown is None or image not in shown["image"]:
            return None
        return look(self.page, shown["box"], shown["points"], between=100, style=style)

    def open(self, instance: str) -> None:
        """Open what a result is about, as a person does: by a double click in the study panel."""
        self.until(lambda: self.page.evaluate(_ENTRY, instance) is not None, what=f"{instance} is listed")
        # What it opens by itself, it would put over what is asked for before.
        self.until(lambda: self.look("") is not None, what="its first image is open")
        entry = self.page.locator(f"[id='thumbnail-{self.page.evaluate(_ENTRY, instance)}']")
        entry.dblclick()

    def cannot_show(self, instance: str) -> bool:
        """Whether it lists an instance with a warning, as something that it has no page for."""
        return bool(self.page.evaluate(_UNSUPPORTED, instance))

    def failed(self) -> list[str]:
        """Everything that its scripts threw, whoever waited for it."""
        return [*self.errors, *map(str, self.page.evaluate("window.rejected ?? []"))]

    def image_of(self, seg: str) -> str:
        """Which image it takes a SEG to be about: the first of what it finds."""
        self.until(lambda: self.page.evaluate(_TAKEN, seg) is not None, what=f"{seg} is listed with its image")
        return str(self.page.evaluate(_TAKEN, seg))

    def segments(self) -> int:
        """How many segments it has read, drawn or not."""
        return int(self.page.evaluate(_SEGMENTS))

    def labels(self) -> list[Label]:
        """What stands beside the lines of a report, in the order in which it is drawn."""
        found = self.page.evaluate(_LABELS)
        return [Label(lines=tuple(each["lines"]), box=each["box"]) for each in found]

    def viewport(self) -> dict[str, float]:
        """Give x, y, width and height of what shows the image."""
        shown = self.page.evaluate(_VIEWPORT)
        assert shown is not None
        return dict(shown["box"])

    def agree(self, question: str) -> None:
        """Say yes."""
        self.page.get_by_text(question).wait_for()
        self.page.get_by_text("Yes", exact=True).click()

    def until(self, reached: Callable[[], bool], *, what: str) -> None:
        """Wait for what the viewer does in its own time; say what it had to say if it does not."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not reached():
            assert time.monotonic() < deadline, f"still not: {what}; errors {self.errors}; page says {self.text()!r}"
            self.page.wait_for_timeout(500)
