"""Pictures of what was seen, for people to look at."""

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Self

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
        """Keep what a page shows now, small enough for a repository."""
        with Image.open(BytesIO(page.screenshot())) as image:
            path = self.folder / f"{name}.jpg"
            image.convert("RGB").save(path, quality=QUALITY, optimize=True)
        assert path.stat().st_size < LARGEST_BYTES
