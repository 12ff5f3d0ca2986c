"""Make the README's pictures: run the demo, draw its list and one overlay from the SEG that its PACS received.

    .venv/bin/python benchmarks/make_pictures.py docs/images

Needs nothing but the project.
"""

import argparse
import tempfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import dcmread
from rich.console import Console

from cxr_triage.daemon.demo.command import demonstrated
from cxr_triage.daemon.demo.follow import Outcome
from cxr_triage.daemon.demo.show import print_outcome
from cxr_triage.model.findings import STRUCTURES
from cxr_triage.model.radiograph import read_radiograph

#: The file whose overlay is drawn.
SUBJECT = "11-larch-dx.dcm"
COLUMNS = 140
#: How much of a structure's colour covers the image inside its outline.
OPACITY = 0.22
GAP_PIXELS = 16


def main() -> None:
    """Run the demo once and write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="cxr-triage-demo-") as folder,
        demonstrated(Path(folder), Console(stderr=True)) as (outcome, _),
    ):
        draw_list(outcome, Path(folder), output / "worklist.svg")
        draw_overlay(outcome, output / "overlay.png")


def draw_list(outcome: Outcome, folder: Path, path: Path) -> None:
    """Draw what the demo prints."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, highlight=False)
    print_outcome(outcome, console, folder=folder)
    picture = console.export_svg(title="cxr-triage demo").replace(str(folder), "demo-output")
    path.write_text(picture, encoding="utf-8")


def draw_overlay(outcome: Outcome, path: Path) -> None:
    """Draw the radiograph, and beside it the same with the structures of its SEG."""
    subject = next(file for file in outcome.pushed if file.path.name == SUBJECT)
    seg = next(
        each.path for each in outcome.objects if each.kind == "SEG" and subject.sop_instance_uid in each.references
    )
    grey_HW = read_radiograph(subject.path).pixels_HW
    plain_HWC = np.repeat(grey_HW[..., np.newaxis], 3, axis=2)
    gap_HWC = np.ones((grey_HW.shape[0], GAP_PIXELS, 3), dtype=np.float32)
    both = np.concatenate([plain_HWC, gap_HWC, outlined(plain_HWC, dcmread(seg).pixel_array)], axis=1)
    picture = Image.fromarray(np.round(both * 255).astype(np.uint8))
    label(picture, grey_HW.shape[1] + GAP_PIXELS)
    picture.save(path, optimize=True)


def outlined(plain_HWC: NDArray[np.float32], masks_CHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Tint each structure, and draw its outline."""
    drawn_HWC = plain_HWC.copy()
    for structure, mask_HW in zip(STRUCTURES, masks_CHW.astype(bool), strict=True):
        colour = np.array(structure.rgb, dtype=np.float32) / 255
        drawn_HWC[mask_HW] = (1 - OPACITY) * drawn_HWC[mask_HW] + OPACITY * colour
        drawn_HWC[edge(mask_HW)] = colour
    return drawn_HWC


def edge(mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask that touch something else."""
    padded = np.pad(mask_HW, 2)
    inside: NDArray[np.bool_] = np.logical_and.reduce(
        [padded[2 + down : padded.shape[0] - 2 + down, 2:-2] for down in (-2, -1, 1, 2)]
        + [padded[2:-2, 2 + across : padded.shape[1] - 2 + across] for across in (-2, -1, 1, 2)]
    )
    return mask_HW & ~inside


def label(picture: Image.Image, left: int) -> None:
    """Name the structures in their colours."""
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, 0, left + 90, 16 * len(STRUCTURES) + 12), fill=(0, 0, 0))
    names: Sequence[str] = [structure.code.meaning for structure in STRUCTURES]
    for line, (name, structure) in enumerate(zip(names, STRUCTURES, strict=True)):
        draw.text((left + 10, 8 + 16 * line), name, fill=structure.rgb)


if __name__ == "__main__":
    main()
