"""A printed statement, read back: its tables, as a hospital's engineer finds them."""

import re
from collections.abc import Iterator
from pathlib import Path

from pydicom.uid import UID

DOCS = Path(__file__).parents[1] / "docs" / "reference"
STATEMENT = DOCS / "conformance-statement.md"
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CELLS = re.compile(r"(?<!\\)\|")

Row = dict[str, str]
#: Abstract syntax and transfer syntax.
Pair = tuple[str, str]


def chapter(title: str, page: Path = STATEMENT) -> str:
    """Give what stands below a heading, down to the next one."""
    parts = HEADING.split(page.read_text(encoding="utf-8"))
    return parts[parts.index(title) + 1]


def tables(title: str, page: Path = STATEMENT) -> list[list[Row]]:
    """Give the tables below a heading."""
    return list(_tables(chapter(title, page)))


def table(title: str, column: str, page: Path = STATEMENT) -> list[Row]:
    """Give the one table below a heading that has a column of that name."""
    (found,) = [rows for rows in tables(title, page) if column in rows[0]]
    return found


def codes_of(title: str) -> set[int]:
    """Give the statuses that we send, as they are printed below a heading."""
    return {int(row["status that we send"], 16) for row in table(title, "status that we send")}


def contexts(title: str) -> set[Pair]:
    """Give the presentation contexts below a heading, one for each transfer syntax."""
    lists: dict[str, list[str]] = {}
    for row in table("4.2 Application entity specifications", "list"):
        lists.setdefault(row["list"], []).append(row["UID"])
    return {
        (row["UID"], syntax)
        for row in table(title, "transfer syntaxes")
        for syntax in lists[row["transfer syntaxes"]]
        if UID(row["UID"]).name.split(":")[0] == row["SOP class"]
    }


def policy(title: str, name: str) -> str:
    """Give the value of a policy, without where it is set."""
    (row,) = [row for row in table(title, "policy") if row["policy"] == name]
    return row["value"].split(" ")[0]


def _tables(text: str) -> Iterator[list[Row]]:
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        header, _, *rows = [_cells(line) for line in block.splitlines()]
        yield [dict(zip(header, row, strict=True)) for row in rows]


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in CELLS.split(line)[1:-1]]
