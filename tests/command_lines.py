"""The command line in this process, on a configuration and its database, and as a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cxr_triage.daemon.__main__ import main
from cxr_triage.storage.database import open_database
from kept_logging import kept_logging
from peers import free_port
from steps import Steps

STUDY, OTHER = "1.2.840.1", "1.2.840.2"


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class CommandLine:
    """`cxr-triage` with a configuration and its database; commands run in this process, which is quicker."""

    def __init__(self, folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.folder = folder
        self.config = folder / "cxr-triage.toml"
        self.url = url
        ports = f"[dicom]\nport = {free_port()}\n[web]\nport = {free_port()}\n"
        pacs = f'[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\n'
        self.config.write_text(f'{ports}[storage]\ndatabase = "{url}"\n{pacs}')
        self.database = open_database(url)
        self.steps = Steps(self.database)
        self.steps.clock.now = datetime.now(UTC)

    def run(self, *arguments: str) -> Done:
        """Run a command on this configuration."""
        return self.run_bare("--config", str(self.config), *arguments)

    def run_bare(self, *arguments: str) -> Done:
        """Run a command as it is."""
        with kept_logging(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["cxr-triage", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        status, said = ended.value.code, self._capsys.readouterr()
        assert isinstance(status, int)
        return Done(returncode=status, stdout=said.out, stderr=said.err)

    def said(self, *arguments: str) -> str:
        """Standard output of a command that succeeds and complains of nothing."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def listed(self) -> list[dict[str, Any]]:
        """Give the reading list, in order."""
        studies: list[dict[str, Any]] = json.loads(self.said("worklist", "--json"))["studies"]
        return studies

    def complaint(self, *arguments: str, status: int = 1) -> str:
        """The one line of a command that fails."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
        return done.stderr


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user does, in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CXR_TRIAGE_")}
    command = [sys.executable, "-m", "cxr_triage.daemon", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | environment)
