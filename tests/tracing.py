"""A process of the daemon under strace: which system calls it made, in which order, and what came of them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemons import children
from peers import eventually

STRACE = "/usr/bin/strace"
CALLS = "fsync,fdatasync,rename,renameat,renameat2,unlink,sendto,recvfrom"
#: "PID name(arguments) = result", the result being what follows the last " = ".
_WHOLE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)")
_BEGUN = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*) <unfinished \.\.\.>")
_ENDED = re.compile(r"(?P<thread>\d+) +<\.\.\. \w+ resumed>(?P<arguments>.*)\) += (?P<result>.*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One system call."""

    thread: int
    name: str
    #: As strace prints them: descriptors with what they are, strings cut off.
    arguments: str
    result: str
    #: Lines of the trace: one that ends before another begins was over by then.
    began: int
    ended: int

    @property
    def succeeded(self) -> bool:
        """Whether it gave no error."""
        return not self.result.startswith("-1 ")

    def before(self, other: "Call") -> bool:
        """Whether it was over when the other one began."""
        return self.ended < other.began


@contextmanager
def traced(arguments: Sequence[str], trace: Path, *options: str) -> Iterator[None]:
    """Run one role under strace until the end of the block, from when its log says that it is ready; stop it in order.

    Args:
        arguments: of `cxr-triage`.
        trace: the file to write; the log goes beside it.
        options: more of strace's.
    """
    log = trace.with_suffix(".log")
    # --seccomp-bpf: only the calls that are asked for stop the process.
    command = [STRACE, "-f", "-yy", "-s", "64", "--seccomp-bpf", "-o", str(trace), "-e", f"trace={CALLS}", *options]
    program = [sys.executable, "-m", "cxr_triage.daemon", *arguments]
    with log.open("wb") as said, subprocess.Popen([*command, *program], stderr=said) as strace:
        try:
            eventually(lambda: '"role ready"' in log.read_text() or strace.poll() is not None)
            assert strace.poll() is None, log.read_text()
            yield
        finally:
            for pid in children(strace.pid):  # strace passes no signal on
                os.kill(pid, signal.SIGTERM)
            assert strace.wait(60) == 0


def calls(trace: Path) -> list[Call]:
    """Read a trace, in the order in which the calls began."""
    found: list[Call] = []
    begun: dict[str, tuple[int, str, str]] = {}
    for number, line in enumerate(trace.read_text(errors="replace").splitlines()):
        if match := _WHOLE.fullmatch(line):
            found.append(_call(match, match["name"], match["arguments"], number, number))
        elif match := _BEGUN.fullmatch(line):
            begun[match["thread"]] = (number, match["name"], match["arguments"])
        elif (match := _ENDED.fullmatch(line)) and match["thread"] in begun:
            began, name, arguments = begun.pop(match["thread"])
            found.append(_call(match, name, arguments + match["arguments"], began, number))
    return sorted(found, key=lambda call: call.began)


def _call(match: re.Match[str], name: str, arguments: str, began: int, ended: int) -> Call:
    return Call(
        thread=int(match["thread"]),
        name=name,
        arguments=arguments,
        result=match["result"],
        began=began,
        ended=ended,
    )
