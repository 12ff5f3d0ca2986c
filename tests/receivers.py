"""Several receivers on one port: the real supervisor and the real processes, without the other roles."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_triage.daemon.dicom_client import Peer
from peers import LOOPBACK, PATIENCE_SECONDS, eventually, free_port

#: `serve`, with one role only.
SERVICE = """
    import sys
    from pathlib import Path
    from cxr_triage.daemon import service
    from cxr_triage.daemon.settings import load_settings

    service.ROLES = {"receive": service.ROLES["receive"]}
    config = Path(sys.argv[1])
    service.run_all(load_settings(config), config=config, announce=lambda line: print(line, flush=True))
"""


@dataclass
class Receivers:
    """The supervisor of some receivers, and where they listen."""

    port: int
    folder: Path
    supervisor: "subprocess.Popen[str]"

    @property
    def peer(self) -> Peer:
        """The port as a destination."""
        return Peer(calling_ae_title="MODALITY", ae_title="CXRTRIAGE", host=LOOPBACK, port=self.port)

    @property
    def inbox(self) -> Path:
        """Where received images lie."""
        return self.folder / "inbox"

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Every line of the log about one event, oldest first."""
        lines = map(json.loads, (self.folder / "log").read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    def processes(self) -> dict[str, int]:
        """The process started last under each name."""
        return {line["job"]: line["process"] for line in self.lines("role started")}

    def kill(self, *names: str) -> None:
        """Kill some, and wait until others serve in their places."""
        # A role tells its supervisor that it is ready before it logs it.
        eventually(lambda: len(self.lines("role ready")) == len(self.lines("role started")))
        ready = len(self.lines("role ready"))
        processes = self.processes()
        for name in names:
            os.kill(processes[name], signal.SIGKILL)
        eventually(lambda: len(self.lines("role ready")) == ready + len(names))


@contextmanager
def receivers(folder: Path, database_url: str, *, count: int = 2, dicom: str = "") -> Iterator[Receivers]:
    """Run receivers until the end of the block.

    Args:
        folder: of everything that they write.
        database_url: of a database that has the schema.
        count: how many.
        dicom: more lines of the table `[dicom]`.
    """
    port, config, script = free_port(), folder / "cxr-triage.toml", folder / "service.py"
    config.write_text(
        f'[storage]\nroot = "."\ndatabase = "{database_url}"\n[dicom]\nport = {port}\nreceivers = {count}\n{dicom}\n'
    )
    script.write_text(textwrap.dedent(SERVICE))
    command = [sys.executable, str(script), str(config)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as supervisor,
    ):
        try:
            assert supervisor.stdout is not None
            assert supervisor.stdout.readline().startswith("cxr-triage ready:"), (folder / "log").read_text()
            yield Receivers(port=port, folder=folder, supervisor=supervisor)
            supervisor.terminate()
            supervisor.wait(PATIENCE_SECONDS)
        finally:
            supervisor.kill()
