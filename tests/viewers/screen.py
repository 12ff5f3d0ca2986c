"""A screen that nobody sees (Xvfb), with a mouse and keys, for programs that are no pages."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageGrab

XVFB: Final = "/usr/bin/Xvfb"
XDOTOOL: Final = "/usr/bin/xdotool"
WIDTH, HEIGHT = 1280, 1000
#: Between two clicks of a double click.
CLICK_MS: Final = 80


class Screen:
    """A screen."""

    def __init__(self, display: str) -> None:
        #: What programs find it by (X(7), DISPLAY).
        self.display = display

    def picture(self) -> NDArray[np.uint8]:
        """What it shows: (row, column, RGB)."""
        return np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB"))

    def click(self, x: int, y: int, *, times: int = 1) -> None:
        """Click somewhere."""
        self._do("mousemove", str(x), str(y), "click", "--repeat", str(times), "--delay", str(CLICK_MS), "1")

    def press(self, *keys: str) -> None:
        """Press keys, by their names in X, one after the other."""
        self._do("key", *keys)

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a program that is to be shown on it, and keeps what it keeps in a folder."""
        return {"DISPLAY": self.display, "HOME": str(home), "PATH": os.defpath, "LANG": "C.UTF-8"}

    def _do(self, *what: str) -> None:
        subprocess.run([XDOTOOL, *what], env={"DISPLAY": self.display}, check=True, capture_output=True)


@contextmanager
def screen() -> Iterator[Screen]:
    """Give a screen until the end of the block, by whatever number is free."""
    reading, writing = os.pipe()
    command = [XVFB, "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL) as server:
        os.close(writing)
        try:
            with os.fdopen(reading) as numbers:
                number = numbers.readline().strip()
            assert number, "Xvfb ended at once"
            yield Screen(f":{number}")
        finally:
            server.terminate()
