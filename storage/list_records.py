"""The reading list as a whole: its version, what changes it, and whether triage is paused."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from cxr_triage.model.priority import Level, Mode, Policy, Priority, Ranked, rank
from cxr_triage.storage.image_records import InstanceHeader, InstanceState


class Change(StrEnum):
    """What changed the order of the list."""

    #: The study came onto the list, or back onto it.
    LISTED = "listed"
    #: Its order, its findings or the policy gave it another priority.
    MOVED = "moved"
    #: It waited longer than its ordered level may.
    OVERDUE = "overdue"
    #: A reader opened it.
    CLAIMED = "claimed"
    #: A reader put it back unread.
    GIVEN_BACK = "given_back"
    #: It left the list.
    FINISHED = "finished"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class ListVersion:
    """Which state of the list somebody sees: equal versions, equal order."""

    #: Changes of the list so far.
    changes: int
    #: Studies that wait and were overdue then: time alone changes the order by making one more of them overdue.
    overdue: int

    def __str__(self) -> str:
        """Write it as every face does: "1832.2"."""
        return f"{self.changes}.{self.overdue}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """Triage is paused: findings move nothing until a person resumes it."""

    #: Since when, UTC.
    at: datetime
    #: Who paused it.
    by: str
    #: Why, in that person's words.
    reason: str


class ListMark(NamedTuple):
    """What a snapshot says, in short: equal marks, equal snapshots."""

    version: ListVersion
    #: Opaque: of the images of the listed studies.
    images: tuple[Any, ...]


class ListedImage(NamedTuple):
    """An image of a study on the list."""

    series_instance_uid: str
    #: As the image says; empty: it does not.
    modality: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedStudy:
    """One study on the reading list, before it is ranked."""

    study_instance_uid: str
    ordered: Level
    #: When its first image was acknowledged, UTC.
    arrived_at: datetime
    #: What the policy made of the findings so far.
    priority: Priority
    #: The same policy, without findings.
    priority_without_findings: Priority
    #: When a reader opened it, UTC; None: it waits.
    claimed_at: datetime | None = None
    #: Who reads it; empty: nobody.
    claimed_by: str = ""
    #: Images by state.
    images: dict[InstanceState, int]
    #: What was not done for it, or taken back, and why: one sentence each, without patient data.
    remarks: tuple[str, ...] = ()
    header: InstanceHeader


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """The list at one instant: all faces show the order that it gives."""

    version: ListVersion
    #: UTC.
    at: datetime
    #: None: findings move studies as the policy says.
    pause: Pause | None
    #: In the order of arrival.
    studies: list[ListedStudy]

    def ranked(self, policy: Policy) -> list[Ranked[ListedStudy]]:
        """Give the studies in the order in which they are to be read."""
        return rank(self.studies, now=self.at, policy=in_force(policy, self.pause))


@dataclass(frozen=True, kw_only=True, slots=True)
class ListChange:
    """One change of the order of the list. No patient data."""

    #: Changes of the list so far, this one included: the same number in every face's message.
    number: int
    #: UTC.
    at: datetime
    study_instance_uid: str
    change: Change
    actor: str
    #: What the study's place was computed from, from then on.
    arrived_at: datetime
    claimed_at: datetime | None
    priority: Priority


@dataclass(frozen=True, kw_only=True, slots=True)
class Stood:
    """A study on the list of a past instant: it can be ranked."""

    study_instance_uid: str
    arrived_at: datetime
    claimed_at: datetime | None
    priority: Priority

    @property
    def priority_without_findings(self) -> Priority:
        """Not kept: the same."""
        return self.priority

    @property
    def remarks(self) -> tuple[str, ...]:
        """Not kept."""
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PastList:
    """The list of a past instant, as far as it is kept."""

    #: UTC.
    at: datetime
    #: Of the policy by which it was in order, paused or not; None: not kept.
    mode: Mode | None
    raise_to: Level | None
    pause: Pause | None
    studies: list[Stood]
    #: Study Instance UIDs of those that waited then, and of whose places nothing was kept yet.
    not_kept: frozenset[str]

    def ranked(self, policy: Policy) -> list[Ranked[Stood]]:
        """Give the studies in the order in which they were to be read then.

        Args:
            policy: of today, for what of the policy of then is not kept. Severity weights need not be: each study's
                utility is kept; nor longest waits: each study's own is.
        """
        waits = {each.priority.ordered: each.priority.overdue_at - each.arrived_at for each in self.studies}
        then = replace(
            policy,
            mode=self.mode or policy.mode,
            raise_to=policy.raise_to if self.raise_to is None else self.raise_to,
            maximum_wait={**policy.maximum_wait, **waits},
        )
        return rank(self.studies, now=self.at, policy=in_force(then, self.pause))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """The most probable finding of a label, of all images of a study, and the image that it was made on."""

    label: str
    #: Calibrated, 0 to 1.
    probability: float
    threshold: float
    sop_instance_uid: str
    #: Name and version of the weights.
    model: str


def in_force(policy: Policy, pause: Pause | None) -> Policy:
    """Give what a policy comes to, paused or not."""
    return policy if pause is None else policy.without_moves()
