"""What a running daemon holds, by role: threads, file handles and memory, read from /proc (proc(5))."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from daemons import descendants

SUPERVISOR = "supervisor"


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """What one process holds, or several together."""

    #: Threads, the first one included.
    threads: int
    #: Open file descriptors: files, sockets, pipes.
    handles: int
    #: Bytes of memory that only the process itself can give back: RssAnon + RssShmem + VmSwap. File-backed pages are
    #: left out: those of shared libraries come and go with the page cache. Pss would count them, and changes whenever
    #: another process that shares them starts or ends. SQLite's -shm file counts as shared memory on tmpfs only.
    resident_bytes: int

    def __add__(self, other: Self) -> "Vitals":
        """Both together."""
        return Vitals(
            threads=self.threads + other.threads,
            handles=self.handles + other.handles,
            resident_bytes=self.resident_bytes + other.resident_bytes,
        )


def vitals_of(pid: int) -> Vitals:
    """Read what a process holds now.

    Raises:
        ProcessLookupError: it has ended.
    """
    status = _status(pid)
    try:
        handles = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    kilobytes = sum(int(status[field].split()[0]) for field in ("RssAnon", "RssShmem", "VmSwap"))
    return Vitals(threads=int(status["Threads"]), handles=handles, resident_bytes=kilobytes * 1024)


def by_role(supervisor: int) -> dict[str, Vitals]:
    """Read what each role of `serve` holds now; processes that end meanwhile are left out.

    Args:
        supervisor: its process ID; it is a key of its own.

    Returns:
        By role. What a role has started counts as the role's: the decoding children of `infer` do, and the resource
        tracker of multiprocessing. Several processes of one role are summed.
    """
    found: dict[str, list[Vitals]] = defaultdict(list)
    for pid, role in _roles(supervisor):
        try:
            vitals = vitals_of(pid)
        except ProcessLookupError:
            continue
        found[role].append(vitals)
    return {role: _sum(each) for role, each in found.items()}


def _roles(supervisor: int) -> Iterator[tuple[int, str]]:
    """Each process and its role: the one that its command line names, or its parent's."""
    roles = {supervisor: SUPERVISOR}
    yield supervisor, SUPERVISOR
    for pid in descendants(supervisor):  # parents come before their children
        try:
            parent = int(_status(pid)["PPid"])
        except ProcessLookupError:
            continue
        roles[pid] = _named_role(pid) or roles.get(parent, SUPERVISOR)
        yield pid, roles[pid]


def _named_role(pid: int) -> str | None:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return arguments[arguments.index("--role") + 1] if "--role" in arguments[:-1] else None


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    fields = dict(line.split(":", maxsplit=1) for line in lines)
    if "RssAnon" not in fields:  # it has ended, and its parent has not yet asked how
        raise ProcessLookupError(pid)
    return fields


def _sum(each: list[Vitals]) -> Vitals:
    total = Vitals(threads=0, handles=0, resident_bytes=0)
    for vitals in each:
        total += vitals
    return total
