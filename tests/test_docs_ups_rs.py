"""docs/reference/ups-rs.md, run as it stands: each block in a shell, on a port that is free here."""

import re
import subprocess
from pathlib import Path

from worklists import serving, settings_of

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "ups-rs.md"


def test_the_examples_run(tmp_path: Path, sqlite_url: str) -> None:
    """A reader's round: found, placed, claimed, set, completed, shown, subscribed to."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    with serving(settings_of(tmp_path, database_url=sqlite_url)) as base:
        said = [_typed(block.replace("http://127.0.0.1:8080", base)) for block in blocks]
    assert len(said) == 7
    assert "cxr-triage-list-version: 0.0" in said[0].lower()
    assert '<Value number="1">COMPLETED</Value>' in said[5]
    assert f"content-location: {base.replace('http', 'ws')}/subscribers/READER" in said[6]


def _typed(block: str) -> str:
    done = subprocess.run(["/bin/bash", "-c", block], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
    return done.stdout
