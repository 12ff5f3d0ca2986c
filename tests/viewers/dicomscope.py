"""OFFIS DICOMscope draws annotations: how a person opens a presentation state in it, and what it then shows."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from viewers.overlay import Place
from viewers.screen import HEIGHT, WIDTH, Screen, screen

VERSION: Final = "3.6.0"
JAVA: Final = "/usr/bin/java"
ARCHIVE: Final = "/usr/share/java/DICOMscope.jar"
DCMQRIDX: Final = "/usr/bin/dcmqridx"
PATIENCE_SECONDS: Final = 120
#: It starts nothing on a network: no section names a peer.
SETTINGS: Final = """\
[[GENERAL]]
[MONITOR]
Resolution = {width}\\{height}
Screensize = 320\\250
[DATABASE]
Directory = {database}
[LUT]
Directory = /usr/share/dicomscope/lut
[REPORT]
Directory = /usr/share/dicomscope/reports
[GUI]
AutoUpdateStudyBrowser = false
[[COMMUNICATION]]
"""
#: The line of the study browser that is chosen, and the tab that is in front, in Swing's colours.
CHOSEN: Final = (184, 207, 229)
IN_FRONT: Final = (200, 221, 242)
#: Where its window has the tab of the study browser, a part of it beside its title, and the browser's first line.
BROWSER, TAB = (36, 41), (8, 41)
FIRST_LINE: Final = (120, 71)
#: Part of the window that shows an image: left, top, right, bottom.
CANVAS: Final = (7, 68, 1013, 930)

Canvas = NDArray[np.uint8]


class Dicomscope:
    """Its window, with one study."""

    def __init__(self, shown_on: Screen, objects: int) -> None:
        self.screen = shown_on
        self._until(self._browses, what="its study browser is open")
        # All lines are there once the study and each of its series are unfolded.
        self.screen.click(*FIRST_LINE)
        self.screen.press("Down", "Right", *["Down", "Right", "Down"] * objects)

    @classmethod
    @contextmanager
    def of(cls, folder: Path, objects: Sequence[Dataset]) -> Iterator[Self]:
        """Start it.

        Args:
            folder: is made; everything that it keeps is below it.
            objects: what its database has, each of another series, all of one study; images uncompressed.
        """
        folder.mkdir()
        _fill(folder / "database", objects)
        settings = SETTINGS.format(database=folder / "database", width=WIDTH, height=HEIGHT)
        (folder / "DICOMscope.cfg").write_text(settings, encoding="ascii")
        with (
            screen() as shown_on,
            subprocess.Popen(
                [JAVA, f"-Duser.home={folder}", "-jar", ARCHIVE],
                cwd=folder,
                env=shown_on.environment(folder),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as program,
        ):
            try:
                yield cls(shown_on, len(objects))
            finally:
                program.kill()

    def open(self, number: int, shows: Callable[[Canvas], bool], *, what: str) -> Canvas:
        """Open an object, as a person does: by a double click in the study browser; gives the canvas then.

        Args:
            number: its place among all, from 0.
            shows: whether it is there.
            what: the same in words.
        """
        self.screen.click(*BROWSER)
        self._until(self._browses, what="its study browser is in front")
        self.screen.click(*FIRST_LINE)
        # Below the first line are the study's, and then two for each object: its series' and its own.
        self.screen.press(*["Down"] * (3 + 2 * number))
        self.screen.click(FIRST_LINE[0] + 60, self._chosen_line(), times=2)
        self._until(lambda: not self._browses(), what="its image viewer is in front")
        last = [self.canvas()]

        def settled() -> bool:
            last.append(self.canvas())
            return np.array_equal(last[-1], last[-2]) and shows(last[-1])

        self._until(settled, what=what)
        return last[-1]

    def canvas(self) -> Canvas:
        """What is shown of an image: (row, column, RGB)."""
        left, top, right, bottom = CANVAS
        return self.screen.picture()[top:bottom, left:right]

    def _until(self, reached: Callable[[], bool], *, what: str) -> None:
        """Wait for what it does in its own time."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert time.monotonic() < deadline, f"still not: {what}"
            time.sleep(0.3)

    def _browses(self) -> bool:
        column, row = TAB
        return tuple(self.screen.picture()[row, column]) == IN_FRONT

    def _chosen_line(self) -> int:
        """Row of the screen in which the line is that is chosen, once it is not the first."""

        def rows() -> NDArray[np.intp]:
            chosen = (self.screen.picture() == CHOSEN).all(axis=2).sum(axis=1) > 100
            return np.flatnonzero(chosen[FIRST_LINE[1] + 12 : CANVAS[3] - 30]) + FIRST_LINE[1] + 12

        self._until(lambda: rows().size > 0, what="a line is chosen")
        return int(rows().mean())


def place_of_white(white: NDArray[np.uint8], shape: tuple[int, int]) -> Place:
    """Where an image is, from the canvas with that image all white.

    Args:
        white: the canvas.
        shape: rows and columns of the image.
    """
    lit = white.min(axis=2) == 255
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    down, right = (rows[-1] + 1 - rows[0]) / shape[0], (columns[-1] + 1 - columns[0]) / shape[1]
    origin = (columns[0] + right / 2 - 0.5, rows[0] + down / 2 - 0.5)
    return Place(origin=origin, column_step=(right, 0.0), row_step=(0.0, down))


def _fill(database: Path, objects: Sequence[Dataset]) -> None:
    database.mkdir()
    paths = [database / f"{number}.dcm" for number, _ in enumerate(objects)]
    for path, ds in zip(paths, objects, strict=True):
        ds.save_as(path, enforce_file_format=True)
    subprocess.run([DCMQRIDX, "-n", database, *paths], check=True, capture_output=True)
