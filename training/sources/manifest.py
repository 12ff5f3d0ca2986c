"""A published folder -> a folder that training reads: manifest.csv, regions.csv, masks, and what was wrong."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.errors import UnreadableImageError, is_machine_fault
from cxr_triage.model.suitability import LATERAL_VIEW
from cxr_triage.training.data import MASK_BITS, NIH_LABELS, DataError, is_dicom, read_image
from cxr_triage.training.sources.published import Published
from cxr_triage.training.sources.report import Report
from cxr_triage.training.sources.source import Record, Source
from cxr_triage.training.threads import reading_threads

#: What decoders raise on damaged files; Pillow's PNG reader knows no better than SyntaxError.
UNREADABLE: Final = (OSError, UnreadableImageError, ValueError, SyntaxError, Image.DecompressionBombError)

#: Published views that are not frontal and upright, beside those that the service knows by their DICOM names.
OTHER_VIEWS: Final = frozenset({"L", "LLD", "RLD"})


@dataclass(kw_only=True, slots=True)
class Kept:
    """A record after its files were looked at."""

    record: Record
    #: As the manifest has it; empty = left out.
    path: str = ""
    mask: str = ""
    problems: list[str] = field(default_factory=list)


def write_manifest(
    source: Source,
    published: Published,
    output: Path,
    *,
    decode: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Read a published folder and write the folder that training reads; the images stay where they are.

    Args:
        source: what is published there.
        published: the folder.
        output: the folder to write; made if need be.
        decode: read every image to its last pixel, rather than its header only.
        progress: called after each image.

    Returns:
        What report.json says.

    Raises:
        DataError: nothing can be used, a table is missing, or the folder to write has a manifest already.
    """
    if source.read is None:
        raise DataError(f"no reader is known for {source.name}: its manifests can only be trained on")
    if (output / "manifest.csv").exists():
        raise DataError(f"{output} has a manifest.csv already: name another folder, or remove it")
    if not published.path.is_dir():
        raise DataError(f"{published.path} is not a folder")
    output.mkdir(parents=True, exist_ok=True)
    records = list(_usable(source.read(published), published.report))
    kept = list(_looked_at(records, output, published.report, decode=decode, progress=progress))
    _note_straddling_patients(kept, published.report)
    summary = _summary(source, kept, published.report)
    _write_json(output / "report.json", summary)
    if not kept:
        raise DataError(f"nothing in {published.path} can be used as {source.name}: {_worst(published.report)}")
    _write_regions(output / "regions.csv", kept)
    _write_rows(output / "manifest.csv", source, kept)
    return summary


def _usable(records: Iterable[Record], report: Report) -> Iterator[Record]:
    """Frontal radiographs, each once."""
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            report.note("duplicate_id", record.id)
        elif record.view.upper() in OTHER_VIEWS or LATERAL_VIEW.fullmatch(record.view.upper()):
            report.note("lateral_view", record.id)
        else:
            yield record
        seen.add(record.id)


def _looked_at(
    records: Sequence[Record], output: Path, report: Report, *, decode: bool, progress: Callable[[], None]
) -> Iterator[Kept]:
    """Those whose images can be read, in their order."""
    with reading_threads() as pool:
        for kept in pool.map(lambda record: _look_at(record, output, decode=decode), records):
            for kind in kept.problems:
                report.note(kind, kept.record.id)
            if kept.path:
                yield kept
            progress()


def _look_at(record: Record, output: Path, *, decode: bool) -> Kept:
    kept = Kept(record=record)
    try:
        pixels = _pixels(record, decode=decode)
        kept.path = _keep_image(record, pixels, output)
    except UNREADABLE as error:
        if is_machine_fault(error):
            raise
        kept.problems.append("broken_image")
        return kept
    if record.mask is not None:
        _keep_mask(kept, record.mask, pixels, output)
    return kept


def _pixels(record: Record, *, decode: bool) -> NDArray[Any]:
    """The image's pixels; empty where only its header was to be read."""
    if record.pixels is not None:
        return record.pixels()
    if decode or record.mask is not None:
        return read_image(record.image)
    if not is_dicom(record.image):
        with Image.open(record.image):
            pass
    return np.empty(0)


def _keep_image(record: Record, pixels: NDArray[Any], output: Path) -> str:
    """Where the image is; one of a source's own format is written as PNG of 16 bits."""
    if record.pixels is None:
        return str(record.image.resolve())
    path = output / "images" / f"{record.id}.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path.relative_to(output).as_posix()


def _keep_mask(kept: Kept, read: Callable[[], NDArray[np.bool_]], pixels: NDArray[Any], output: Path) -> None:
    """Write a mask as a bit field of the image's size."""
    try:
        masks = _resized(read(), pixels.shape)
    except UNREADABLE as error:
        if is_machine_fault(error):
            raise
        kept.problems.append("broken_mask")
        return
    if pixels[masks[:2].any(axis=0)].mean() > pixels[masks[2]].mean():
        kept.problems.append("inverted_image")
    path = output / "masks" / f"{kept.record.id}.png"
    path.parent.mkdir(exist_ok=True)
    bits = (masks * np.array(MASK_BITS)[:, None, None]).sum(axis=0)
    Image.fromarray(bits.astype(np.uint8)).save(path)
    kept.mask = path.relative_to(output).as_posix()


def _resized(masks: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Masks (3, H, W) on the image's matrix, by the nearest pixel.

    Raises:
        ValueError: lungs or heart are empty.
    """
    if not (masks[:2].any(axis=(1, 2)).all() and masks[2].any()):
        raise ValueError("a structure's mask is empty")
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape, masks.shape[1:], strict=True))
    return masks[:, rows[:, None], columns[None, :]]


def _note_straddling_patients(kept: Iterable[Kept], report: Report) -> None:
    """A patient may be in one official split only, or the others say nothing of unseen patients."""
    splits: dict[str, set[str]] = {}
    for each in kept:
        if each.record.split:
            splits.setdefault(each.record.patient, set()).add(each.record.split)
    for patient, found in splits.items():
        if len(found) > 1:
            report.note("patient_in_several_splits", patient)


def _worst(report: Report) -> str:
    problems = report.problems()
    if not problems:
        return "it has no image of that data set"
    kind = max(problems, key=lambda name: problems[name]["count"])
    return f"{problems[kind]['count']} times {kind}, the first one is {problems[kind]['first'][0]}"


def _summary(source: Source, kept: Sequence[Kept], report: Report) -> dict[str, Any]:
    records = [each.record for each in kept]
    labels = {
        label: {
            "positive": sum(record.labels.get(label) is True for record in records),
            "negative": sum(record.labels.get(label) is False for record in records),
        }
        for label in _label_columns(source, records)
    }
    return {
        "source": source.name,
        "terms": source.terms,
        "unverified": source.unverified,
        "images": len(records),
        "patients": len({record.patient for record in records}),
        "masks": sum(bool(each.mask) for each in kept),
        "boxes": sum(len(record.regions) for record in records),
        "splits": dict(Counter(record.split or "none" for record in records)),
        "labels": {label: counts for label, counts in labels.items() if any(counts.values())},
        "left_out": report.left_out(),
        "problems": report.problems(),
    }


def _label_columns(source: Source, records: Iterable[Record]) -> list[str]:
    """Those of every manifest first, then the source's own."""
    used = (label for record in records for label in record.labels)
    return list(dict.fromkeys(["no_finding", *NIH_LABELS, *source.labels, *used]))


def _write_json(path: Path, summary: dict[str, Any]) -> None:
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_regions(path: Path, kept: Iterable[Kept]) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(("id", "label", "x0", "y0", "x1", "y1"))
        for each in kept:
            for region in each.record.regions:
                box = (round(value, 4) for value in (region.x0, region.y0, region.x1, region.y1))
                writer.writerow((each.record.id, region.label, *box))


def _write_rows(path: Path, source: Source, kept: Sequence[Kept]) -> None:
    """The manifest comes last, and whole: a folder that has one is finished."""
    labels = _label_columns(source, (each.record for each in kept))
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow((*COLUMNS_BEFORE_LABELS, *labels, *COLUMNS_AFTER_LABELS))
        for each in kept:
            writer.writerow(_row(source, each, labels))
    partial.replace(path)


COLUMNS_BEFORE_LABELS: Final = ("id", "path", "source", "patient", "patient_source", "sex", "age", "view", "split")
COLUMNS_AFTER_LABELS: Final = ("mask", "ctr", "reference")


def _row(source: Source, kept: Kept, labels: Sequence[str]) -> list[str]:
    record = kept.record
    cells = {None: "", True: "1", False: "0"}
    return [
        *(record.id, kept.path, source.name, record.patient, record.patient_source),
        *(record.sex, record.age, record.view, record.split),
        *(cells[record.labels.get(label)] for label in labels),
        *(kept.mask, "", "0"),
    ]
