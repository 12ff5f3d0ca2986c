"""The command that says what a viewer would show of an object: its words, and no patient's."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import displays
from cxr_triage.daemon.__main__ import main
from cxr_triage.daemon.display.command import VIEWERS
from kept_logging import kept_logging

#: Who the patients of our tests are, and what a person wrote.
PATIENT_WORDS = ("Muster", "Erika", "PAT-0001", "19640812", "Beispiel", "ACC-0001", "has a finding", "MUSTER")


class Said(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """`cxr-triage explain-display`, in this process."""

    def command(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["cxr-triage", "explain-display", *map(str, arguments)])
        with kept_logging(), pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, said.out, said.err)

    return command


def test_the_command_says_a_verdict_and_its_rules(run: Callable[..., Said], tmp_path: Path) -> None:
    """0: drawn; 1: one of them is not."""
    good = displays.file_of(displays.seg(), tmp_path / "good.dcm")
    bad = displays.file_of(displays.seg("air"), tmp_path / "bad.dcm")
    said = run(good, "--viewer", "ohif")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"{good}: OHIF draws it as an overlay on its image\n")
    both = run("--viewer", "ohif", good, bad)
    assert (both.status, f"{bad}: OHIF does not draw it (Segmentation Storage)\n" in both.out) == (1, True)
    for word in ("failed", "3 of 3", "profile `ohif`", "checkOrientation", "3.12.10 and 3.13.2"):
        assert word in both.out


def test_the_command_prints_json(run: Callable[..., Said], tmp_path: Path) -> None:
    """A list, in the order of the files."""
    file = displays.file_of(displays.presentation_state(), tmp_path / "state.dcm")
    said = run("--viewer", "ohif", "--json", file)
    [row] = json.loads(said.out)
    assert (said.status, row["file"], row["known"], row["draws"]) == (1, str(file), False, False)
    assert row["verdict"].startswith("OHIF does not know this kind of object (Grayscale Softcopy Presentation State")
    assert set(row["rules"][0]) == {"rule", "passed", "mended_in", "needs", "found", "change", "source"}


@pytest.mark.parametrize("viewer", VIEWERS)
def test_nothing_of_the_patient_is_printed(run: Callable[..., Said], tmp_path: Path, viewer: str) -> None:
    """Neither names nor texts, nor what a person wrote where a code should stand."""
    files = []
    for number, make in enumerate({make for _, make in displays.DRAWN + displays.UNKNOWN}):
        odd = make()
        for item in odd.iterall():
            if item.keyword in {"GraphicType", "SegmentationType", "TemplateIdentifier", "CodeValue", "SegmentLabel"}:
                item.value = "MUSTER"
        files += [displays.file_of(make(), tmp_path / f"{number}.dcm"), displays.file_of(odd, tmp_path / f"o{number}")]
    shown = run(*files, "--viewer", viewer).out + run(*files, "--viewer", viewer, "--json").out
    assert (len(shown) > 10000, [word for word in PATIENT_WORDS if word in shown]) == (True, [])


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no DICOM", "is no DICOM file"), (b"", "is no DICOM file"), (None, "cannot be read (FileNotFoundError)")],
)
def test_what_is_no_dicom_file_is_one_line(
    run: Callable[..., Said], tmp_path: Path, content: bytes | None, words: str
) -> None:
    """Status 2, whatever the other files are."""
    good, file = displays.file_of(displays.seg(), tmp_path / "good.dcm"), tmp_path / "odd"
    if content is not None:
        file.write_bytes(content)
    said = run(good, file, "--viewer", "ohif")
    assert (said.status, said.out, said.err.count("\n"), words in said.err) == (2, "", 1, True)


def test_what_there_are_no_rules_for_is_said(run: Callable[..., Said], tmp_path: Path) -> None:
    """An encapsulated PDF; and a viewer or an option that is none."""
    document = displays.text_sr()
    document.SOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    file = displays.file_of(document, tmp_path / "document.dcm")
    said = run(file, "--viewer", "ohif")
    assert (said.status, "no rules for this kind of object (Encapsulated PDF Storage)" in said.err) == (2, True)
    unknown = run(file, "--viewer", "osirix")
    assert (unknown.status, "write one of ohif, stone, weasis, dcmqi" in unknown.err) == (2, True)
    assert run(file, "--viewer", "ohif", "--jsno").status == 2
    assert run(file).status == 2
