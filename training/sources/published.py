"""A folder as a data set is published: its tables, its images, and what is wrong with them."""

import csv
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cxr_triage.model.errors import UnreadableImageError
from cxr_triage.model.header import open_dataset, quiet_pydicom, text
from cxr_triage.training.data import DataError, Region
from cxr_triage.training.sources.report import Report

#: Beyond it an age is a mistake of typing: ChestX-ray14 has ages up to 414.
MAX_AGE_YEARS: Final = 120
#: "058Y" (DICOM's Age String, PS3.5 6.2), "58" or "58.0".
AGE: Final = re.compile(r"(\d+)(?:\.0*)?([YMWD]?)")
UNITS_PER_YEAR: Final = {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}
FACTS: Final = ("PatientSex", "PatientAge", "ViewPosition")
#: How far a box may reach past the image's edge, as a share of its side: boxes were drawn by hand and rounded.
BOX_TOLERANCE: Final = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomFacts:
    """What a header says of the patient and the projection; empty = unknown."""

    sex: str = ""
    age: str = ""
    view: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published folder, read once; whatever is wrong goes into the report."""

    path: Path
    report: Report = field(default_factory=Report)
    #: Our column -> the name that it has in the folder's table; only the source `folder` asks.
    columns: Mapping[str, str] = field(default_factory=dict)

    def file(self, *names: str) -> Path | None:
        """The first of these files that the folder has, whatever the case of its name; None is noted."""
        here = {path.name.lower(): path for path in sorted(self.path.iterdir()) if path.is_file()}
        for name in names:
            if name.lower() in here:
                return here[name.lower()]
        self.report.note("missing_file", " or ".join(names))
        return None

    def required(self, *names: str) -> Path:
        """As `file`, for a table without which there is nothing to read.

        Raises:
            DataError: the folder has none of them.
        """
        found = self.file(*names)
        if found is None:
            raise DataError(f"{self.path} has no {' or '.join(names)}: name the folder that the data set came in")
        return found

    def rows(self, table: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
        """The rows of a table, cells stripped; a row that is too short is noted.

        Args:
            table: CSV with a header line, between commas, or semicolons as some spreadsheets write it.
            columns: those that it must have.

        Raises:
            DataError: a column is missing, or the file is no such table.
        """
        missing = [column for column in columns if column not in self.header(table)]
        if missing:
            raise DataError(f"{table} has no column {missing[0]!r}")
        with _table(table) as reader:
            for row in reader:
                if any(row[column] is None for column in columns):
                    self.report.note("unreadable_row", f"{table.name} line {reader.line_num}")
                else:
                    yield {name: (cell or "").strip() for name, cell in row.items() if isinstance(cell, str | None)}

    def header(self, table: Path) -> list[str]:
        """The names of a table's columns.

        Raises:
            DataError: the file is no table.
        """
        with _table(table) as reader:
            return list(reader.fieldnames or ())

    def lines(self, name: str) -> list[str]:
        """The lines of a list of names, without blank ones; none where it is missing."""
        path = self.file(name)
        return [] if path is None else path.read_text(encoding="utf-8-sig").split()

    def images(self, *suffixes: str) -> dict[str, Path]:
        """Every file below the folder with one of these suffixes, by its name; a second one of a name is noted.

        Hidden files are none of the data set's: archives from a Macintosh have a "._NAME" beside each NAME.
        """
        found: dict[str, Path] = {}
        for path in sorted(self.path.rglob("*")):
            if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith("."):
                if path.name in found:
                    self.report.note("duplicate_image", path.relative_to(self.path).as_posix())
                else:
                    found[path.name] = path
        return found

    def age(self, cell: str, name: str) -> str:
        """An age in full years as the manifest has it, empty where unknown.

        Args:
            cell: years, or an Age String of DICOM; empty = unknown.
            name: whose, for the report.
        """
        stated = AGE.fullmatch(cell.upper())
        if not stated:
            if cell:
                self.report.note("unreadable_age", f"{name}: {cell}")
            return ""
        years = int(stated[1]) // UNITS_PER_YEAR[stated[2]]
        if years > MAX_AGE_YEARS:
            self.report.note("implausible_age", f"{name}: {cell}")
            return ""
        return str(years)

    def dicom_facts(self, path: Path) -> DicomFacts:
        """Sex, age and view of a DICOM file; empty where it cannot be read, which is noted when its pixels are."""
        try:
            with quiet_pydicom():
                header = open_dataset(path, only=FACTS)
                sex, age, view = (text(header, keyword) for keyword in FACTS)
        except UnreadableImageError:
            return DicomFacts()
        return DicomFacts(sex=sex, age=self.age(age, path.name), view=view)

    def box(self, name: str, label: str, cells: tuple[str, ...], side: float) -> Region | None:
        """A box of x, y, width and height in pixels of a square image; None where it cannot be one, which is noted.

        Args:
            name: whose, for the report.
            label: what the box is about.
            cells: x, y, width, height.
            side: of the image, pixels.
        """
        try:
            x, y, width, height = (float(cell) / side for cell in cells)
        except ValueError:
            x, y, width, height = (math.nan,) * 4
        inside = 0 <= x < 1 and 0 <= y < 1 and width > 0 and height > 0
        if not (inside and x + width <= 1 + BOX_TOLERANCE and y + height <= 1 + BOX_TOLERANCE):
            self.report.note("unreadable_box", f"{name} {label}")
            return None
        return Region(label=label, x0=x, y0=y, x1=min(x + width, 1.0), y1=min(y + height, 1.0))


@contextmanager
def _table(path: Path) -> Iterator["csv.DictReader[str]"]:
    """Open a CSV file whose columns stand between commas, or between semicolons if its first line has more of those.

    Raises:
        DataError: it is not CSV in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            first = lines.readline()
            lines.seek(0)
            yield csv.DictReader(lines, delimiter=max(",;", key=first.count))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not CSV in UTF-8: save it as that") from error
