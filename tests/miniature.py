"""A training folder in miniature: drawn chests, in the layout that training and evaluation read."""

import csv
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from builders import thorax_masks
from cxr_triage.training.data import NIH_LABELS

COLUMNS: Final = (
    *("id", "path", "source", "patient", "sex", "age", "view", "no_finding"),
    *NIH_LABELS,
    *("mask", "ctr", "reference"),
)


def drawn_chest(side: int = 96) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Draw two dark lungs and a bright heart on grey: pixels (side, side) in [0, 1], masks (3, side, side)."""
    masks = thorax_masks(side, side)
    masks[:2] &= ~masks[2]
    left, right, heart = masks
    pixels = np.full((side, side), 0.6, dtype=np.float32)
    pixels[left | right] = 0.2
    pixels[heart] = 0.9
    return pixels, masks


def miniature_folder(folder: Path, *, patients: int = 24) -> Path:
    """Write images, masks, manifest.csv, regions.csv and reference_predictions.csv for every source."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = [
        _row(folder, source, number) for source in ("nih", "jsrt", "wingspan", "kermany") for number in range(patients)
    ]
    with (folder / "manifest.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    with (folder / "reference_predictions.csv").open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ("id", *NIH_LABELS))
        writer.writeheader()
        for row in rows:
            if row.get("reference") == 1:
                writer.writerow({"id": row["id"]} | {name: 0.7 if row[name] else 0.2 for name in NIH_LABELS})
    (folder / "regions.csv").write_text("id,label,x0,y0,x1,y1,by\nnih0,Mass,0.2,0.2,0.3,0.3,a radiologist\n")
    return folder


def _row(folder: Path, source: str, number: int) -> dict[str, object]:
    name = f"{source}{number}"
    pixels, masks = drawn_chest()
    noise = np.random.default_rng(number).normal(0, 0.02, pixels.shape)
    Image.fromarray(np.uint8(255 * (pixels + noise).clip(0, 1))).save(folder / "images" / f"{name}.png")
    row: dict[str, object] = {
        "id": name,
        "path": f"images/{name}.png",
        "source": source,
        "patient": f"p{number}",
        "sex": "FM"[number % 2],
        "age": "5" if source == "kermany" else str(40 + number),
        "view": "PA",
    }
    if source == "nih":
        labels = {label: int((number + index) % 3 == 0) for index, label in enumerate(NIH_LABELS)}
        return row | labels | {"no_finding": number % 2, "reference": 1}
    if source == "kermany":
        return row | {"no_finding": number % 2, "Pneumonia": 1 - number % 2}
    bits = (masks * np.array([1, 2, 4])[:, None, None]).sum(axis=0)
    Image.fromarray(np.uint8(bits)).save(folder / "masks" / f"{name}.png")
    labels = {"no_finding": number % 2, "Nodule": 1 - number % 2} if source == "jsrt" else {}
    return row | labels | {"mask": f"masks/{name}.png", "ctr": 0.4 if source == "wingspan" else ""}
