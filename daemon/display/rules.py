"""What a rule of a viewer is, and what comes of looking at a file with it. No patient data enters a finding."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr_triage.model.header import text

T = TypeVar("T")

#: So many numbers of failing items are named; a SEG may have thousands of frames.
NAMED: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What one look at a file found."""

    ok: bool
    #: Counts, codes of the standard and UIDs; never a value that a person wrote.
    found: str


LookAt = Callable[[Dataset], Look]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One thing that a viewer needs of an object to draw it."""

    #: Unique among the viewer's rules.
    name: str
    #: What the viewer needs, and what it does without.
    needs: str
    #: What to change in an object that fails it.
    change: str
    #: Repository, file, and version or commit where it was read; or the observed behaviour.
    source: str
    look: LookAt
    #: Version of the viewer that no longer needs it; empty: the newest that was read does.
    mended_in: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A rule, and what a file has to show for it."""

    rule: str
    needs: str
    ok: bool
    found: str
    change: str
    source: str
    mended_in: str = ""

    @property
    def counts(self) -> bool:
        """Whether the newest version does not draw the object because of it."""
        return not self.ok and not self.mended_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """How a viewer shows one sort of objects, and its rules for them."""

    applies: Callable[[Dataset], bool]
    #: Completes "draws it ...".
    shows: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Viewer:
    """A viewer, by what it takes."""

    title: str
    #: What the rules are for.
    versions: str
    #: The first that applies counts; an object that none applies to is of no kind that the viewer knows.
    sheets: tuple[Sheet, ...]
    #: Which kinds it knows, what to send instead of another, and where that was read.
    knows: str
    instead: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether a viewer draws an object, and why."""

    viewer: str
    versions: str
    #: Name of the SOP class (PS3.4 B.5), or its UID where it is none of the standard's.
    kind: str
    #: How the viewer shows this kind of object; empty: it does not know it.
    shows: str
    #: The first is about the kind of object.
    findings: tuple[Finding, ...]

    @property
    def known(self) -> bool:
        """Whether the viewer knows this kind of object."""
        return bool(self.shows)

    @property
    def draws(self) -> bool:
        """Whether the newest version that was read draws it."""
        return not any(finding.counts for finding in self.findings)

    @property
    def since(self) -> str:
        """The version from which on it is drawn, where earlier ones fail; empty where all draw it."""
        return max((finding.mended_in for finding in self.findings if not finding.ok), default="")

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if not self.known:
            return f"{self.viewer} does not know this kind of object ({self.kind})"
        if not self.draws:
            return f"{self.viewer} does not draw it ({self.kind})"
        return f"{self.viewer} draws it {self.shows}" + (f", from version {self.since} on" if self.since else "")


def judge(viewer: Viewer, dataset: Dataset) -> Verdict:
    """Look at an object with every rule that the viewer has for its kind."""
    sheet = next((sheet for sheet in viewer.sheets if sheet.applies(dataset)), None)
    kind = kind_name(dataset)
    first = Finding(
        rule="kind",
        needs=viewer.knows,
        ok=sheet is not None,
        found=kind,
        change=viewer.instead,
        source=viewer.source,
    )
    findings = [first, *(_finding(rule, dataset) for rule in (sheet.rules if sheet else ()))]
    return Verdict(
        viewer=viewer.title,
        versions=viewer.versions,
        kind=kind,
        shows=sheet.shows if sheet else "",
        findings=tuple(findings),
    )


def kind_name(dataset: Dataset) -> str:
    """The name of an object's SOP class, which is the standard's; or its UID."""
    uid = text(dataset, "SOPClassUID")
    return UID(uid).name if uid and not uid.strip("0123456789.") else "no SOP Class UID"


def _finding(rule: Rule, dataset: Dataset) -> Finding:
    look = rule.look(dataset)
    return Finding(
        rule=rule.name,
        needs=rule.needs,
        ok=look.ok,
        found=look.found,
        change=rule.change,
        source=rule.source,
        mended_in=rule.mended_in,
    )


def every(things: Iterable[T], good: Callable[[T], bool], *, what: str) -> Look:
    """Look whether all of them are good; where there are none there is nothing to fail, another rule asks for some.

    Args:
        things: what is looked at, in the file's order.
        good: what each must be.
        what: their name, in the plural.
    """
    verdicts = [good(thing) for thing in things]
    wrong = [number for number, is_good in enumerate(verdicts, start=1) if not is_good]
    if not verdicts:
        return Look(ok=True, found=f"no {what} to look at")
    if not wrong:
        return Look(ok=True, found=f"{what}: all {len(verdicts)}")
    return Look(ok=False, found=f"{what}: {len(wrong)} of {len(verdicts)} fail: {_numbers(wrong)}")


def some(count: int, *, what: str) -> Look:
    """Look whether there is one at least."""
    return Look(ok=count > 0, found=f"{what}: {count or 'none'}")


def _numbers(wrong: Sequence[int]) -> str:
    named = ", ".join(map(str, wrong[:NAMED]))
    return named + (f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else "")
