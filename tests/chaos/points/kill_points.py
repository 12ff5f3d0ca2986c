"""Where a process of the daemon is killed on purpose: the one table of these places.

`sitecustomize.py` beside it carries it into every Python process of the daemon, so it imports next to nothing.
"""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

#: Names the folder of `Tokens` to the processes of the daemon.
TOKENS_VARIABLE = "CHAOS_TOKENS"

BEFORE, DURING, AFTER = "before", "during", "after"
ITSELF, PARENT = "itself", "parent"
FILES = "cxr_triage.storage.inbox"
INTAKE = "cxr_triage.storage.ledger.intake"
SCORING = "cxr_triage.storage.ledger.scoring"
REPORTING = "cxr_triage.storage.ledger.reporting"
DISPATCH = "cxr_triage.storage.ledger.dispatch"


def _always(*_arguments: object) -> bool:
    return True


def _data_set_in_part(message: Any, *_: object) -> bool:
    """Whether a DIMSE message has some of its data set, and is about to get more."""
    return bool(message.data_set.tell())


def _of_a_seg(_dispatch: object, delivery: Any) -> bool:
    return bool(delivery.object.kind == "SEG")


class KillPoint(NamedTuple):
    """A place in the code, and who dies there."""

    #: For people, and of the token's file.
    name: str
    #: Whose process it is: what others do there is not meant. One token of each role lies about at a time.
    role: str
    #: Where the code is; both empty: in the PACS of this harness, which kills the sender.
    module: str = ""
    attribute: str = ""
    #: When the process dies: before the call, a moment after its beginning, or when it has returned.
    when: str = BEFORE
    #: Whether this call, by its arguments, is one to die at.
    condition: Callable[..., bool] = _always
    #: Who dies: the process that runs the code, or its parent.
    victim: str = ITSELF

    def owner(self, module: Any) -> tuple[Any, str]:
        """Who has the function as an attribute, and the attribute's name.

        Raises:
            AttributeError: the code has changed, and this table has not.
        """
        path, _, name = self.attribute.rpartition(".")
        owner = getattr(module, path) if path else module
        getattr(owner, name)
        return owner, name

    def is_here(self) -> bool:
        """Whether this process is of the point's role, or a child of one that is."""
        arguments = sys.argv
        return "--role" in arguments[:-1] and arguments[arguments.index("--role") + 1] == self.role


#: After the PACS has stored an object, before it says so.
AT_PACS = KillPoint("pacs_stored_before_answer", "deliver")
#: Files are gone, and the ledger does not know yet: reached when files are old enough, and not by pushing images.
AT_RETENTION = KillPoint(
    "files_discarded_before_commit",
    "upkeep",
    "cxr_triage.storage.ledger.housekeeping",
    "Housekeeping.record_forgotten",
)
#: Reached by pushing images.
POINTS = (
    KillPoint(
        "mid_p_data", "receive", "pynetdicom.dimse_messages", "DIMSEMessage.decode_msg", condition=_data_set_in_part
    ),
    KillPoint("written_before_rename", "receive", FILES, "Inbox._final_name"),
    KillPoint("after_rename_before_commit", "receive", INTAKE, "Intake.record_received"),
    KillPoint("after_commit_before_answer", "receive", INTAKE, "Intake.record_received", AFTER),
    KillPoint("indexed_before_commit", "infer", SCORING, "Scoring.record_indexed"),
    KillPoint("during_inference", "infer", "cxr_triage.daemon.readers", "score", DURING),
    KillPoint("parent_during_inference", "infer", "cxr_triage.daemon.readers", "score", DURING, victim=PARENT),
    KillPoint("scored_before_commit", "infer", SCORING, "Scoring.record_scored"),
    KillPoint("after_scored_commit", "infer", SCORING, "Scoring.record_scored", AFTER),
    KillPoint("between_results_in_outbox", "report", FILES, "Outbox._store", AFTER),
    KillPoint("results_built_before_commit", "report", REPORTING, "Reporting.complete_revision"),
    KillPoint("after_outbox_commit", "report", REPORTING, "Reporting.complete_revision", AFTER),
    AT_PACS,
    KillPoint("answered_before_commit", "deliver", DISPATCH, "Dispatch.record_stored"),
    KillPoint("between_seg_and_sr", "deliver", DISPATCH, "Dispatch.record_stored", AFTER, condition=_of_a_seg),
)


class Tokens:
    """One-shot permissions to die: exactly one process takes each."""

    def __init__(self, folder: Path) -> None:
        self._armed = folder / "armed"
        self._fired = folder / "fired"

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self._armed, self._fired):
            folder.mkdir(parents=True, exist_ok=True)

    def arm(self, point: KillPoint) -> None:
        """Let the next process that comes by die."""
        (self._armed / point.name).touch()

    def disarm(self, point: KillPoint) -> bool:
        """Take a token back; False: somebody has taken it."""
        try:
            (self._armed / point.name).unlink()
        except FileNotFoundError:
            return False
        return True

    def take(self, point: KillPoint, victim: int) -> bool:
        """Take a token, if there is one, in the name of the process that is to die."""
        try:
            (self._armed / point.name).rename(self._fired / f"{point.name} {victim}")
        except FileNotFoundError:
            return False
        return True

    def collect(self) -> list[tuple[str, int]]:
        """Points that were reached since the last time, and who was to die there."""
        collected = []
        for taken in sorted(self._fired.iterdir()):
            name, _, victim = taken.name.partition(" ")
            collected.append((name, int(victim)))
            taken.unlink()
        return collected


def victim_of(point: KillPoint) -> int:
    """Who dies when this process comes to a point."""
    return os.getppid() if point.victim == PARENT else os.getpid()


def require_points() -> None:
    """Fail where the code has changed and the table has not: then nobody would die there.

    Raises:
        AttributeError: it names the point's function.
    """
    for point in (*POINTS, AT_RETENTION):
        if point.module:
            point.owner(importlib.import_module(point.module))
