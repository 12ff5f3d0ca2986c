"""What the documents say of the project is so: links lead somewhere, commands and settings exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cxr_triage.daemon.__main__ import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("daemon/demo/radiographs/*.md"))
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"cxr-triage((?: --config \S+)?(?: [a-z-]+)+)")
MAKE = re.compile(r"\bmake ([a-z]+)\b(?=`|\n| {2}| ARGS)")


def text_of(page: Path) -> str:
    """Read a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def commands() -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """Every command of the command line by its words, and those among them that have commands below them."""
    known: set[tuple[str, ...]] = set()
    groups: set[tuple[str, ...]] = set()

    def walk(command: Any, words: tuple[str, ...]) -> None:
        known.add(words)
        below = getattr(command, "commands", {})
        if below:
            groups.add(words)
        for name, child in below.items():
            walk(child, (*words, name))

    walk(typer.main.get_command(app), ())
    return known, groups


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there."""
    links = [link.split("#")[0] for link in LINK.findall(text_of(page)) if "://" not in link]
    assert [link for link in links if link and not (ROOT / page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_exist(page: Path) -> None:
    """Every `cxr-triage WORD` names a command."""
    known, groups = commands()
    for match in COMMAND.finditer(text_of(page)):
        words = [word for word in match.group(1).split() if word != "--config"]
        assert longest_command(words, groups) in known, match.group(0)


def longest_command(words: list[str], groups: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Take words for as long as they can be the name of a command, and the one after."""
    taken: tuple[str, ...] = ()
    for word in words:
        if taken not in groups:
            break
        taken = (*taken, word)
    return taken


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_make_targets_exist(page: Path) -> None:
    """Every `make WORD` names a target."""
    targets = set(re.findall(r"^([a-z]+):", text_of(Path("Makefile")), re.MULTILINE))
    assert [target for target in MAKE.findall(text_of(page)) if target not in targets] == []
