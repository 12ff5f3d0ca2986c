"""What became of what was pushed, as the daemon's own ledger and commands tell it."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cxr_triage.daemon.demo.pacs import StoredObject
from cxr_triage.daemon.demo.push import PushedFile
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping, Reporting
from cxr_triage.storage.ledger.history import History
from cxr_triage.storage.result_records import RevisionState
from cxr_triage.storage.upkeep_records import Counts, SetAside

#: No more work is done on these by itself.
END_STATES: Final = (InstanceState.SCORED, InstanceState.UNSUITABLE, InstanceState.FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How far the daemon is."""

    #: Images that are scored or set aside.
    read: int
    #: Objects that the PACS has.
    delivered: int
    #: Objects that are made so far.
    made: int
    finished: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """An image that has no result."""

    file: str
    #: "unsuitable" or "failed".
    state: str
    #: A stable word, and one sentence for a person.
    kind: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One line of the reading list."""

    study: str
    files: tuple[str, ...]
    rank: int
    #: Under the same policy at the same instant, had there been no findings.
    ordered_rank: int
    ordered: str
    priority: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """All that the demo has to say."""

    pushed: Sequence[PushedFile]
    scored: int
    refused: Sequence[Refused]
    worklist: Sequence[Listed]
    objects: Sequence[StoredObject]
    #: Per scored study, from the start of its first C-STORE to the commit of its priority.
    seconds_push_to_list: Sequence[float]

    @property
    def acknowledged(self) -> list[PushedFile]:
        """Files that the daemon answered with success."""
        return [file for file in self.pushed if file.acknowledged]

    def losses(self) -> list[str]:
        """What went missing on the way, one sentence each; empty = nothing."""
        refused = {each.file for each in self.refused}
        scored = [file for file in self.acknowledged if file.path.name not in refused]
        lost = [f"{file.path.name}: not acknowledged" for file in self.pushed if not file.acknowledged]
        if len(scored) != self.scored:
            lost.append(f"{len(scored)} images should have a result, {self.scored} have")
        for kind in ("SEG", "SR"):
            cited = {uid for each in self.objects if each.kind == kind for uid in each.references}
            lost += [
                f"{file.path.name}: no {kind} at the PACS" for file in scored if file.sop_instance_uid not in cited
            ]
        return lost


class Follower:
    """Reads the ledger of a running daemon."""

    def __init__(self, database: Database) -> None:
        self._housekeeping = Housekeeping(database)
        self._reporting = Reporting(database)
        self._history = History(database)

    def standing(self, acknowledged: int) -> Standing:
        """How far the daemon is with that many acknowledged images.

        The order of the three reads matters: work moves from images to studies to report to deliveries, so what was
        at rest when it was read earlier cannot have moved on unseen.
        """
        images = self._housekeeping.counts().instances
        unreported = self._reporting.studies_to_report(1)
        counts = self._housekeeping.counts()
        read = sum(images[state] for state in END_STATES)
        return Standing(
            read=read,
            delivered=_delivered(counts),
            made=sum(sum(states.values()) for states in counts.deliveries.values()),
            finished=read >= acknowledged and not unreported and _at_rest(counts),
        )

    def scored(self) -> int:
        """How many images have a prediction."""
        return self._housekeeping.counts().instances[InstanceState.SCORED]

    def decided_at(self) -> dict[str, datetime]:
        """When the last result of each scored study was committed, and its priority with it, UTC."""
        return {image.study_instance_uid: image.scored_at for image in self._history.scored_images()}

    def refused(self, pushed: Sequence[PushedFile]) -> list[Refused]:
        """What was set aside, in the order in which it was pushed."""
        set_aside = {each.sop_instance_uid: each for each in self._housekeeping.set_aside()}
        return [
            _refused(file, set_aside[file.sop_instance_uid]) for file in pushed if file.sop_instance_uid in set_aside
        ]


def listed(worklist_json: str, pushed: Sequence[PushedFile]) -> list[Listed]:
    """Read what `cxr-triage worklist --json` printed."""
    return [
        Listed(
            study=row["study"],
            files=tuple(file.path.name for file in pushed if file.study_instance_uid == row["study"]),
            rank=row["rank"],
            ordered_rank=row["ordered_rank"],
            ordered=row["ordered"],
            priority=row["priority"],
            reason=row["reason"],
        )
        for row in json.loads(worklist_json)["studies"]
    ]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile, 0 < share <= 1; None of nothing."""
    if not values:
        return None
    return sorted(values)[math.ceil(share * len(values)) - 1]


def seconds_to_list(pushed: Sequence[PushedFile], decided_at: dict[str, datetime]) -> list[float]:
    """Seconds from the first C-STORE of each decided study to the commit of its priority."""
    started: dict[str, datetime] = {}
    for file in pushed:
        started.setdefault(file.study_instance_uid, file.started_at)
    return [(decided_at[study] - start).total_seconds() for study, start in started.items() if study in decided_at]


def _delivered(counts: Counts) -> int:
    done = (DeliveryState.STORED, DeliveryState.COMMITTED)
    return sum(states[state] for states in counts.deliveries.values() for state in done)


def _at_rest(counts: Counts) -> bool:
    pending = sum(states[DeliveryState.PENDING] for states in counts.deliveries.values())
    return counts.revisions[RevisionState.OPEN] == 0 and pending == 0


def _refused(file: PushedFile, why: SetAside) -> Refused:
    return Refused(file=file.path.name, state=why.state.value, kind=why.reason, reason=why.explanation)
