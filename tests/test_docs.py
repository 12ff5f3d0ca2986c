"""What the documents say of the project is so: links lead somewhere, commands and settings exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cxr_triage.daemon.__main__ import app
from cxr_triage.daemon.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("daemon/demo/radiographs/*.md"))
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
#: Indented lines and `inline` code: what a reader may copy.
CODE = re.compile(r"^ {4,}(.+)$|`([^`\n]+)`", re.MULTILINE)
COMMAND = re.compile(r"\bcxr-triage(?: --config \S+)?((?: [a-z][a-z-]*)+)")
SETTING = re.compile(r"^([a-z]+)\.([a-z_]+)$")
MAKE = re.compile(r"\bmake ([a-z-]+)")


def text_of(page: Path) -> str:
    """Read a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def code_of(page: Path) -> list[str]:
    """Give what is set as code on a page."""
    return [indented or inline for indented, inline in CODE.findall(text_of(page))]


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
    for match in (match for code in code_of(page) for match in COMMAND.finditer(code)):
        assert longest_command(match.group(1).split(), groups) in known, match.group(0)


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
    targets = set(re.findall(r"^([a-z-]+):", text_of(Path("Makefile")), re.MULTILINE))
    assert [target for code in code_of(page) for target in MAKE.findall(code) if target not in targets] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_settings_exist(page: Path) -> None:
    """Every `section.key` in code names a setting."""
    sections = {name: field.annotation for name, field in Settings.model_fields.items()}
    named = [match for code in code_of(page) for match in SETTING.findall(code)]
    wrong = [
        f"{section}.{key}"
        for section, key in named
        if isinstance(known := sections.get(section), type) and key not in known.model_fields
    ]
    assert wrong == []
