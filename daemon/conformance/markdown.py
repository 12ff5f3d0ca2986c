"""The little Markdown that the statements need: tables, and a list of contents."""

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final

from pydicom.uid import UID

_HEADING: Final = re.compile(r"^(##+) (.+)$", re.MULTILINE)


def text(name: str, **tables: str | int) -> str:
    """Give a chapter: its prose (texts/NAME.md) with tables and numbers put where it names them."""
    return files(__package__).joinpath("texts", f"{name}.md").read_text(encoding="utf-8").format(**tables)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table; cells may hold anything but line breaks."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def named(uid: UID) -> str:
    """What the standard calls a UID (PS3.6 Annex A), without what pydicom adds after a colon."""
    return uid.name.split(":")[0]


def status(code: int) -> str:
    """Write a DIMSE status as it stands in logs."""
    return f"0x{code:04X}"


def contents(page: str) -> str:
    """List the numbered headings of a page, as links."""
    listed = [(title.split()[0], title) for _, title in _HEADING.findall(page) if title[0].isdigit()]
    return "\n".join(f"{'  ' * number.count('.')}- [{title}](#{anchor(title)})" for number, title in listed)


def anchor(title: str) -> str:
    """Where a heading is linked to: as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
