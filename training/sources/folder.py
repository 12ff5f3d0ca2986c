"""Any folder of DICOM files or images with a table (CSV) that says what is on them.

The table is the folder's only .csv, or labels.csv. Each column that the manifest needs is found by its own name or one
that is common for it, and can be named: `--column file=Dateiname`. Labels are those that are named so
(`--column Effusion=erguss`), or, where none is, the columns whose names begin with a capital letter. A cell of a label
says yes or no (1, 0, true, false, yes, no), or nothing. Where no column tells sex, age or view of a DICOM file, its
header does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.training.data import OFFICIAL_SPLITS, DataError, is_dicom, is_label_column
from cxr_triage.training.sources import known_sources
from cxr_triage.training.sources.published import DicomFacts, Published
from cxr_triage.training.sources.source import Record, Source, UnknownSource

#: Our column -> names that tables have for it, in lower case.
KNOWN_NAMES: Final = {
    "file": ("file", "filename", "file_name", "path", "image", "image_path", "dicom", "image index"),
    "patient": ("patient", "patient_id", "patientid", "patient id", "subject_id", "pid"),
    "id": ("id", "image_id", "sop_instance_uid"),
    "sex": ("sex", "gender", "patient_sex"),
    "age": ("age", "patient_age", "age_years"),
    "view": ("view", "view_position", "viewposition", "projection"),
    "split": ("split", "subset", "partition"),
    "no_finding": ("no_finding", "no finding", "normal"),
}
#: What counts as an image if no row lists it.
IMAGE_SUFFIXES: Final = frozenset({".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff"})
REQUIRED: Final = ("file", "patient")
SPLIT_NAMES: Final = {"val": "validation", "valid": "validation"}
CELLS: Final = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "y"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "n"), False),
}


def named(name: str) -> Source:
    """The source of a folder under the name that its owner gives it.

    Raises:
        ConfigurationError: manifests could not tell it from another one.
    """
    if not name or "/" in name or name in known_sources():
        raise ConfigurationError(f"{name!r} cannot be the folder's name: give --name one that no data set has")
    return replace(SOURCE, name=name)


def read(published: Published) -> Iterator[Record]:
    """One record per row whose file is there."""
    table = _table(published)
    header = published.header(table)
    columns = _columns(header, published)
    labels = _labels(header, columns)
    listed = set()
    for row in published.rows(table, tuple(columns.values())):
        path = published.path / row[columns["file"]]
        listed.add(path.resolve())
        if path.is_file():
            yield _record(path, row, columns, labels, published)
        else:
            published.report.note("missing_image", row[columns["file"]])
    for path in sorted(published.path.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.resolve() not in listed:
            published.report.note("unlisted_image", path.relative_to(published.path).as_posix())


def _table(published: Published) -> Path:
    tables = sorted(path for path in published.path.iterdir() if path.suffix.lower() == ".csv")
    if len(tables) == 1:
        return tables[0]
    return published.required("labels.csv")


def _columns(header: Sequence[str], published: Published) -> dict[str, str]:
    """Our columns -> those of the table."""
    lower = {name.lower(): name for name in header}
    found = {
        ours: lower[name] for ours, names in KNOWN_NAMES.items() for name in reversed(names) if name in lower
    } | dict(published.columns)
    for ours in REQUIRED:
        if ours not in found:
            raise DataError(f"no column is known to be {ours!r}: name it with --column {ours}=NAME")
    absent = [name for name in found.values() if name not in header]
    if absent:
        raise DataError(f"the table has no column {absent[0]!r}")
    return found


def _labels(header: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Our label columns -> those of the table: the named ones, or else all that may be labels."""
    found = {ours: theirs for ours, theirs in columns.items() if ours not in KNOWN_NAMES}
    wrong = [ours for ours in found if not is_label_column(ours)]
    if wrong:
        raise DataError(f"{wrong[0]!r} is no column of a manifest: a label's name begins with a capital letter")
    if not found:
        taken = set(columns.values())
        found = {name.replace(" ", "_"): name for name in header if is_label_column(name) and name not in taken}
    return found | {ours: theirs for ours, theirs in columns.items() if ours == "no_finding"}


def _record(
    path: Path, row: Mapping[str, str], columns: Mapping[str, str], labels: Mapping[str, str], published: Published
) -> Record:
    cells = {ours: row[theirs] for ours, theirs in columns.items()}
    name = cells["file"]
    if not cells["patient"]:
        published.report.note("patient_unknown", name)
    facts = published.dicom_facts(path) if is_dicom(path) else DicomFacts()
    return Record(
        id=cells.get("id") or name,
        image=path,
        patient=cells["patient"] or name,
        sex=cells.get("sex", facts.sex).upper()[:1],
        age=published.age(cells["age"], name) if "age" in cells else facts.age,
        view=cells.get("view", facts.view).upper(),
        split=_split(cells.get("split", ""), name, published),
        labels=dict(_known(row, labels, name, published)),
    )


def _split(cell: str, name: str, published: Published) -> str:
    split = SPLIT_NAMES.get(cell.lower(), cell.lower())
    if split in OFFICIAL_SPLITS:
        return split
    published.report.note("unlisted_split", f"{name}: {cell}")
    return ""


def _known(
    row: Mapping[str, str], labels: Mapping[str, str], name: str, published: Published
) -> Iterator[tuple[str, bool]]:
    for label, column in labels.items():
        cell = row[column].lower()
        if cell in CELLS:
            yield label, CELLS[cell]
        elif cell:
            published.report.note("unreadable_label", f"{name} {column}={cell}")


SOURCE: Final = UnknownSource(
    name="folder",
    terms="Whatever the folder's owner says.",
    labels=(),
    read=read,
)
