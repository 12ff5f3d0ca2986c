"""Pictures of what was seen, for people to look at."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

#: Names the folder that pictures go to and stay in; docs/images/viewers keeps those that documents show.
VARIABLE: Final = "CXR_TRIAGE_VIEWER_PICTURES"
QUALITY: Final = 80
LARGEST_BYTES: Final = 200_000


@dataclass(frozen=True)
class Pictures:
    """A folder of them."""

    folder: Path

    @classmethod
    def by_environment(cls, otherwise: Path) -> Self:
        """Give the folder that the caller named, or else another one."""
        folder = Path(os.environ.get(VARIABLE) or otherwise)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    def take(self, page: Page, name: str) -> None:
        """Keep what a page shows now."""
        with Image.open(BytesIO(page.screenshot())) as image:
            self._save(image, name)

    def keep(self, picture: NDArray[np.uint8], name: str) -> None:
        """Keep a picture of a screen: (row, column, RGB)."""
        self._save(Image.fromarray(picture), name)

    def _save(self, image: Image.Image, name: str) -> None:
        """Small enough for a repository."""
        path = self.folder / f"{name}.jpg"
        image.convert("RGB").save(path, quality=QUALITY, optimize=True)
        assert path.stat().st_size < LARGEST_BYTES
