"""docs/tutorial/first-study.md, run as it stands: each indented line in a shell, on ports that are free here."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cxr_triage.daemon.demo.serving import free_ports
from daemons import READY, radiographs, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-study.md"
#: Not run again: installing is what CI did before, and the demo has a test of its own.
ELSEWHERE = ("make setup", "source .venv/bin/activate", "cxr-triage demo")
PORTS = {"DICOM": "11112", "WORKLIST": "11113", "WEB": "8080"}


@dataclass
class Reader:
    """Somebody who types the page's lines, in a folder of their own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def type(self, line: str) -> str:
        """Run one line, which must succeed; its standard output. An `export` stays."""
        exports = re.match(r"export (\w+)=(.*)", line)
        shell = f'printf %s "{exports.group(2)}"' if exports else line
        done = subprocess.run(
            ["/bin/bash", "-c", shell],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if exports:
            self.environment[exports.group(1)] = done.stdout
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Somebody in a folder that looks like the repository as far as the page goes."""
    (tmp_path / "daemon" / "demo").mkdir(parents=True)
    (tmp_path / "daemon" / "demo" / "radiographs").symlink_to(radiographs()[0].parent)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CXR_TRIAGE_") or name.startswith("CXR_TRIAGE_MODEL__")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return Reader(tmp_path, environment)


def lines_of_page(ports: dict[str, int]) -> Iterator[str]:
    """Give what the page asks to type, with free ports for the usual ones."""
    for line in re.findall(r"^ {4}(\S.*)$", PAGE.read_text(), re.MULTILINE):
        if line not in ELSEWHERE:
            for name, usual in PORTS.items():
                line = line.replace(usual, str(ports[name]))  # noqa: PLW2901 - one line, step by step
            yield line


def listed(reader: Reader) -> list[dict[str, Any]]:
    """Give the reading list as the daemon has it now."""
    rows: list[dict[str, Any]] = json.loads(reader.type("cxr-triage worklist --json"))["studies"]
    return rows


def has_moved(reader: Reader) -> bool:
    """Whether the study that is read first was not ordered first; at the beginning none is listed."""
    return any(row["rank"] == 1 != row["ordered_rank"] for row in listed(reader))


def test_tutorial_does_what_it_says(reader: Reader) -> None:
    """Every line works; the later study stands first; a person's STAT passes it; what is done is gone."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    reader.environment |= {f"CXR_TRIAGE_{name}__PORT": str(port) for name, port in ports.items()}
    service: subprocess.Popen[str] | None = None
    seen: dict[str, list[dict[str, Any]]] = {}
    try:
        for line in lines_of_page(ports):
            if line == "cxr-triage serve":
                service = serve(reader)
                continue
            if line == "cxr-triage worklist" and not seen:
                wait_until(lambda: has_moved(reader), seconds=240, what="moved")
                seen["moved"] = listed(reader)
            study = seen["moved"][1]["study"] if seen else ""
            reader.type(line.replace("STUDY_INSTANCE_UID", study))
            if line.startswith("cxr-triage order"):
                seen["ordered"] = listed(reader)
        seen["done"] = listed(reader)
        outbox = sorted((reader.folder / "demo-output" / "first-study" / "outbox").rglob("*.dcm"))
    finally:
        if service is not None:
            service.terminate()
            service.wait(timeout=120)
    unremarkable, effusion = seen["moved"][1]["study"], seen["moved"][0]["study"]
    assert [row["study"] for row in seen["ordered"]] == [unremarkable, effusion]
    assert [row["study"] for row in seen["done"]] == [effusion]
    assert len(outbox) == 4


def serve(reader: Reader) -> "subprocess.Popen[str]":
    """Start the daemon as the page says, until its line."""
    with (reader.folder / "service.log").open("wb") as log:
        service = subprocess.Popen(
            ["cxr-triage", "serve"],
            cwd=reader.folder,
            env=reader.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert service.stdout is not None
    with service.stdout:
        assert service.stdout.readline().startswith(READY)
    return service
