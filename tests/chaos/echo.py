"""Another peer, as a process: a C-ECHO every quarter of a second, by DCMTK. Its arguments: a port, and a file."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ECHOSCU = "/usr/bin/echoscu"
EVERY_SECONDS = 0.25
#: Tried again at once until then: what it shows is how long a peer was left without an answer.
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.02
#: Of echoscu: for the connection, the association, the answer, each whole seconds.
TIMEOUTS = ("-to", "10", "-ta", "10", "-td", "10")


def echo(port: int) -> bool:
    """Ask once; whether there was an answer."""
    command = [ECHOSCU, *TIMEOUTS, "-aet", "ECHOPEER", "-aec", "CXRTRIAGE", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def ask(port: int) -> tuple[float, float, bool]:
    """Ask until there is an answer; when it began, when it ended, and whether there was one."""
    began = time.monotonic()
    while not (answered := echo(port)) and time.monotonic() < began + PATIENCE_SECONDS:
        time.sleep(RETRY_SECONDS)
    return began, time.monotonic(), answered


def main(port: int, file: Path) -> None:
    """Ask for as long as whoever started this lives; a line of JSON for each answer."""
    parent = os.getppid()
    with file.open("a", buffering=1) as lines:
        while os.getppid() == parent:
            began, ended, answered = ask(port)
            lines.write(json.dumps([began, ended, answered]) + "\n")
            time.sleep(max(0.0, began + EVERY_SECONDS - time.monotonic()))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
