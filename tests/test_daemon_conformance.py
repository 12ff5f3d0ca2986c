"""The statements are what the command prints, and their own links lead somewhere."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxr_triage.daemon.__main__ import app
from cxr_triage.daemon.conformance.command import STATEMENTS, statement
from cxr_triage.daemon.conformance.markdown import anchor, table
from cxr_triage.model.errors import ConfigurationError
from printed import DOCS, HEADING, STATEMENT, tables

PAGES = {"dicom": STATEMENT, "ihe": DOCS / "ihe-integration-statement.md"}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_the_page_is_up_to_date(kind: str) -> None:
    """The command named in the failure makes it so."""
    printed = CliRunner().invoke(app, ["conformance", "--kind", kind])
    assert printed.exit_code == 0
    made_anew = f"cxr-triage conformance --kind {kind} > {PAGES[kind].relative_to(DOCS.parents[1])}"
    assert printed.output == PAGES[kind].read_text(encoding="utf-8"), made_anew


def test_another_kind_is_refused() -> None:
    """With the kinds that there are."""
    with pytest.raises(ConfigurationError, match="dicom, ihe"):
        statement("hl7")


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_links_within_lead_to_headings(page: Path) -> None:
    """Within a page, and from one statement to the other."""
    headings = {path: {anchor(title) for title in HEADING.findall(path.read_text("utf-8"))} for path in PAGES.values()}
    links = re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text("utf-8"))
    targets = [(DOCS / name if name else page, there) for name, there in links]
    assert targets
    assert [there for path, there in targets if path in headings and there not in headings[path]] == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_tables_can_be_read(page: Path) -> None:
    """Every row has the cells of its header, and every cell says something; only a value may be empty."""
    for title in HEADING.findall(page.read_text("utf-8")):
        for rows in tables(title, page):
            assert rows
            assert [row for row in rows if not all(row[column] for column in row if column not in _MAY_BE_EMPTY)] == []


_MAY_BE_EMPTY = {"", "value", "tag", "presence"}


def test_a_cell_with_a_bar_stays_one_cell() -> None:
    """A bar would begin the next."""
    assert table(("a", "b"), [("1|2", "3")]).splitlines()[-1] == "| 1\\|2 | 3 |"
