"""A peer in a process of its own that asks for a C-ECHO again and again, and writes down how long each took.

    python tests/echoes.py PORT EVERY_SECONDS

Until its standard input ends; then it prints one JSON list of objects with `seconds` and `tries`.
"""

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen

from cxr_triage.daemon.dicom_client import Peer, verify
from cxr_triage.model.errors import UnreachableError

#: Past so many tries an echo counts as not answered.
TRIES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Echo:
    """One C-ECHO."""

    #: From the first connection to the answer.
    seconds: float
    #: 1, unless an association was cut, as when its receiver is killed; 0: no answer at all.
    tries: int


@contextmanager
def echoing(port: int, *, every_seconds: float) -> Iterator[Callable[[], list[Echo]]]:
    """Ask from another process until the given function is called, which gives what was written down."""
    command = [sys.executable, __file__, str(port), str(every_seconds)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:

        def stop() -> list[Echo]:
            said, _ = process.communicate()
            return [Echo(**each) for each in json.loads(said)]

        try:
            yield stop
        finally:
            process.kill()


def _ask(peer: Peer) -> Echo:
    began = time.monotonic()
    for tries in range(1, TRIES + 1):
        with contextlib.suppress(UnreachableError):
            verify(peer)
            return Echo(seconds=time.monotonic() - began, tries=tries)
    return Echo(seconds=time.monotonic() - began, tries=0)


def _set_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _main(port: int, every_seconds: float) -> None:
    logging.disable(logging.CRITICAL)
    peer = Peer(calling_ae_title="ECHO", ae_title="CXRTRIAGE", host="127.0.0.1", port=port)
    stop = threading.Event()
    threading.Thread(target=_set_at_end_of_input, args=(stop,), daemon=True).start()
    echoes: list[Echo] = []
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        echoes.append(_ask(peer))
        due = max(due + every_seconds, time.monotonic())
    json.dump([{"seconds": echo.seconds, "tries": echo.tries} for echo in echoes], sys.stdout)


if __name__ == "__main__":
    _main(int(sys.argv[1]), float(sys.argv[2]))
