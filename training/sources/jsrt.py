"""JSRT database (Shiraishi et al. 2000) with the SCR outlines (van Ginneken et al. 2006).

Layout by db.jsrt.or.jp/eng.php and by readers of it (preprocess_JSRT.py of imlab-uiip/lung-segmentation-2d, jsrt.py
of harishanand95/jsrt-parser): 247 files JPCLNnnn.IMG (with a nodule) and JPCNNnnn.IMG (without), 2048 x 2048 without
a header, big-endian, twelve bits in sixteen, 0.175 mm; values grow with the film's blackening, so bone is dark: they
are turned round. CLNDAT_EN.txt has a line per nodule, tabs between file, subtlety, size in mm, age, sex, x, y,
malignant or benign, place and diagnosis; CNNDAT_EN.TXT has file, age, sex and "non-nodule" between spaces. Lines end
as on old Macintoshes, and "?" is what is unknown.

SCR (isi.uu.nl/Research/Databases/SCR/data.php): scratch/fold1 and fold2/masks/{left lung,right lung,heart}/NAME.gif,
1024 x 1024. Its sides are the patient's: "the right lung and clavicle are on the left in the image".
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.findings import STRUCTURES
from cxr_triage.training.data import Region
from cxr_triage.training.sources.published import Published
from cxr_triage.training.sources.source import Record, Source

#: Side of the raw images, pixels, and what a pixel measures on the film.
SIDE: Final = 2048
SPACING_MM: Final = 0.175
BITS: Final = 12
NAME: Final = re.compile(r"JPC[LN]N\d{3}")
SEXES: Final = {"male": "M", "female": "F"}
#: In the order of STRUCTURES.
MASK_FOLDERS: Final = tuple(structure.name.replace("_", " ") for structure in STRUCTURES)


def read(published: Published) -> Iterator[Record]:
    """One record per listed radiograph that is there: raw, or converted to PNG or JPEG under the same name."""
    converted = {path.stem.upper(): path for path in published.images(".png", ".jpg", ".jpeg").values()}
    images = converted | {path.stem.upper(): path for path in published.images(".img").values()}
    masks = _mask_files(published)
    listed = set()
    for cells in (*_lines(published, "CLNDAT_EN.txt", "\t"), *_lines(published, "CNNDAT_EN.TXT", None)):
        name = Path(cells[0]).stem.upper()
        path = images.get(name)
        listed.add(name)
        if path is None:
            published.report.note("missing_image", name)
        else:
            yield _record(name, path, cells, masks.get(name, {}), published)
    for name in sorted(images.keys() - listed):
        if NAME.fullmatch(name):
            published.report.note("unlisted_image", images[name].name)


def _lines(published: Published, table: str, separator: str | None) -> Iterator[Sequence[str]]:
    found = next((path for path in sorted(published.path.rglob("*")) if path.name.lower() == table.lower()), None)
    if found is None:
        published.report.note("missing_file", table)
        return
    # splitlines takes every kind of line end, of which the copies have all.
    for number, line in enumerate(found.read_text(encoding="latin-1").splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(separator)]
        if NAME.match(cells[0].upper() if cells else "") and len(cells) >= (7 if separator else 3):
            yield cells
        elif line.strip():
            published.report.note("unreadable_row", f"{table} line {number}")


def _mask_files(published: Published) -> dict[str, dict[str, Path]]:
    """Mask files by image and structure."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(published.path.rglob("*.gif")):
        if path.parent.name in MASK_FOLDERS:
            found.setdefault(path.stem.upper(), {})[path.parent.name] = path
    return found


def _record(name: str, path: Path, cells: Sequence[str], masks: dict[str, Path], published: Published) -> Record:
    nodule = name.startswith("JPCLN")
    age, sex = (cells[3], cells[4]) if nodule else (cells[1], cells[2])
    if len(masks) < len(MASK_FOLDERS):
        published.report.note("missing_mask", name)
    return Record(
        id=name,
        image=path,
        patient=name,
        sex=SEXES.get(sex.lower(), ""),
        age=published.age(age.replace("?", ""), name),
        view="PA",
        labels={"no_finding": not nodule, "Nodule": nodule},
        regions=_nodule(name, cells, published) if nodule else (),
        pixels=partial(read_raw, path) if path.suffix.lower() == ".img" else None,
        mask=_masks(masks),
    )


def _nodule(name: str, cells: Sequence[str], published: Published) -> tuple[Region, ...]:
    """The square around a nodule; none where its size is not stated."""
    size, x, y = cells[2], cells[5], cells[6]
    if "?" in size:
        return ()
    try:
        side = float(size) / SPACING_MM
        corner = (str(float(x) - side / 2), str(float(y) - side / 2))
    except ValueError:
        published.report.note("unreadable_box", f"{name} Nodule")
        return ()
    box = published.box(name, "Nodule", (*corner, str(side), str(side)), SIDE)
    return (box,) if box else ()


def _masks(files: dict[str, Path]) -> Callable[[], NDArray[np.bool_]] | None:
    if len(files) < len(MASK_FOLDERS):
        return None
    return partial(read_masks, tuple(files[folder] for folder in MASK_FOLDERS))


def read_raw(path: Path) -> NDArray[np.uint16]:
    """A .IMG file as uint16 (2048, 2048), bright = dense, over all sixteen bits.

    Raises:
        ValueError: the file is not of that size.
    """
    film: NDArray[np.uint16] = np.fromfile(path, dtype=">u2").astype(np.uint16).reshape(SIDE, SIDE)
    white = np.uint16((1 << BITS) - 1)
    dense: NDArray[np.uint16] = white - np.minimum(film, white)
    return dense * np.uint16(1 << (16 - BITS))


def read_masks(files: Sequence[Path]) -> NDArray[np.bool_]:
    """SCR's outlines as bool (3, H, W), in the order of STRUCTURES."""
    masks = []
    for path in files:
        with Image.open(path) as image:
            masks.append(np.asarray(image.convert("L")) > 0)
    return np.stack(masks)


SOURCE: Final = Source(
    name="jsrt",
    terms="Radiographs free for research on registration with JSRT, outlines for research and education; "
    "redistribution of either is prohibited.",
    labels=("Nodule",),
    unverified="read by descriptions and by others' readers; the raw files themselves were not at hand",
    read=read,
)
