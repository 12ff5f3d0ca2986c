"""What must hold after every fault, as code: each check returns its violations in words, and none when all is well.

I1 nothing acknowledged is lost or doubled      I4 threads and file handles come back
I2 nothing unanswered is kept in part           I5 nothing of the patient is said
I3 the files are those that rows own            I6 another peer is answered within a second

`check_rest` is I1 to I3 at once, for a daemon that has nothing left to do (`at_rest`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from sqlalchemy import select

from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping, Reporting
from cxr_triage.storage.owners import owner_is_alive
from cxr_triage.storage.result_records import RevisionState
from cxr_triage.storage.schema import InstanceRow, ObjectRow
from journal import Arrival, Sent, data_set_digest
from vitals import Vitals

#: Patient data that tests put into images, and what of it must come out nowhere but in the database, the two folders
#: and the DICOM answers.
PLANTED = {
    "PatientName": "Zyxwander^Quirinella",
    "PatientID": "PLANTED0815",
    "PatientBirthDate": "19310713",
    "AccessionNumber": "ACCPLANT4711",
    "StudyDescription": "Plantedtext of a referring doctor",
    "ImageComments": "Plantedcomment beside the image",
    "ReferringPhysicianName": "Doctorplant^Ottokar",
    "StudyID": "STUDYPLANT99",
    "IssuerOfPatientID": "ISSUERPLANT",
    "InstitutionName": "Plantedhospital",
    "PatientAddress": "Planted Street 5",
}
NEEDLES = tuple(part for value in PLANTED.values() for part in value.replace("^", " ").split() if len(part) > 6)

ENDED = frozenset({InstanceState.SCORED, InstanceState.UNSUITABLE, InstanceState.FAILED})
#: I6, seconds.
ECHO_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """A row of the ledger: one content of one image."""

    sop_instance_uid: str
    sha256: str
    state: InstanceState
    reason: str
    path: str
    owns_file: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A row of the ledger: one object that was made."""

    sop_instance_uid: str
    sha256: str
    path: str
    owns_file: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Books:
    """What the ledger says of images and results."""

    images: tuple[Image, ...]
    results: tuple[Result, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """Where a daemon keeps its files."""

    inbox: Path
    outbox: Path
    run: Path

    @classmethod
    def below(cls, root: Path) -> Self:
        """Give the folders of a configuration that does not name them."""
        return cls(inbox=root / "inbox", outbox=root / "outbox", run=root / "run")


class Echo(NamedTuple):
    """One C-ECHO of another peer, tried again at once until it was answered or given up; monotonic seconds."""

    began: float
    ended: float
    answered: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


def check_rest(
    database_url: str,
    folders: Folders,
    *,
    acknowledged: Collection[Sent],
    offered: Collection[Sent],
    arrivals: Collection[Arrival],
) -> list[str]:
    """Check I1, I2 and I3 of a daemon at rest.

    Args:
        database_url: of its ledger.
        folders: its.
        acknowledged: what it answered with success (0x0000), as the modality noted it.
        offered: all that the modality ever began to send, what was acknowledged included.
        arrivals: the journal of the only PACS.
    """
    books = read_books(database_url)
    return [
        *check_acknowledged(books, acknowledged, arrivals),
        *check_unanswered(books, acknowledged, offered, arrivals),
        *check_files(books, folders),
    ]


def at_rest(database_url: str) -> bool:
    """Tell whether no work is left, but for what a person must decide on."""
    with closing(open_database(database_url)) as database:
        counts = Housekeeping(database).counts()
        waiting = counts.instances[InstanceState.RECEIVED] + counts.instances[InstanceState.INDEXED]
        pending = sum(states[DeliveryState.PENDING] for states in counts.deliveries.values())
        unreported = Reporting(database).studies_to_report(1)
    return not (waiting or pending or unreported or counts.revisions[RevisionState.OPEN])


def read_books(database_url: str) -> Books:
    """Read the ledger, as one snapshot."""
    with closing(open_database(database_url)) as database, database.read() as session:
        images = tuple(
            Image(
                sop_instance_uid=row.sop_instance_uid,
                sha256=row.sha256,
                state=row.state,
                reason=row.reason or "",
                path=row.path,
                owns_file=row.owns_file,
            )
            for row in session.scalars(select(InstanceRow).order_by(InstanceRow.id))
        )
        results = tuple(
            Result(sop_instance_uid=row.sop_instance_uid, sha256=row.sha256, path=row.path, owns_file=row.owns_file)
            for row in session.scalars(select(ObjectRow).order_by(ObjectRow.id))
        )
    return Books(images=images, results=results)


def check_acknowledged(books: Books, acknowledged: Collection[Sent], arrivals: Collection[Arrival]) -> list[str]:
    """I1: each acknowledged UID is cited by exactly one current SR with its SEG, or has one stated end state."""
    rows = _rows(books)
    pacs = _Pacs(arrivals)
    found = [f"I1 {uid}: the PACS got {count} contents of it" for uid, count in pacs.doubled()]
    for sent in sorted(set(acknowledged)):
        count = sum(image.sha256 == sent.sha256 for image in rows[sent.sop_instance_uid])
        if count != 1:
            found.append(f"I1 {sent.sop_instance_uid}: acknowledged, and the ledger has {count} rows of its bytes")
    for uid in sorted({sent.sop_instance_uid for sent in acknowledged}):
        found += [f"I1 {uid}: {what}" for what in _wrong_with(rows[uid], uid, pacs)]
    return found


def check_unanswered(
    books: Books, acknowledged: Collection[Sent], offered: Collection[Sent], arrivals: Collection[Arrival]
) -> list[str]:
    """I2: what was offered and not acknowledged is nowhere, or whole and once; nothing else is anywhere."""
    rows = _rows(books)
    pacs = _Pacs(arrivals)
    known = set(offered) | set(acknowledged)
    unanswered = {sent.sop_instance_uid for sent in known} - {sent.sop_instance_uid for sent in acknowledged}
    found = [
        f"I2 {uid}: the ledger has bytes that nobody sent"
        for uid, images in sorted(rows.items())
        if not {Sent(uid, image.sha256) for image in images} <= known
    ]
    found += [
        f"I2 {uid}: the ledger has the same bytes twice"
        for uid, images in sorted(rows.items())
        if len({image.sha256 for image in images}) != len(images)
    ]
    for uid in sorted(unanswered):
        found += [f"I2 {uid}: not acknowledged, {what}" for what in _wrong_with(rows[uid], uid, pacs)]
    cited = {uid for arrival in arrivals for uid in arrival.references}
    made = {result.sop_instance_uid for result in books.results}
    strangers = cited - made - {sent.sop_instance_uid for sent in known}
    return found + [f"I2 {uid}: cited at the PACS, and nobody sent it" for uid in sorted(strangers)]


def check_files(books: Books, folders: Folders) -> list[str]:
    """I3: the files below inbox and outbox are whole and those that rows own; nothing temporary is left."""
    owned_images = {image.path: image.sha256 for image in books.images if image.owns_file}
    owned_results = {result.path: result.sha256 for result in books.results if result.owns_file}
    return [
        *(f"I3 inbox/{what}" for what in _differences(folders.inbox, owned_images)),
        *(f"I3 outbox/{what}" for what in _differences(folders.outbox, owned_results)),
        *(f"I3 run/{what}" for what in _left_in_run(folders.run)),
    ]


def check_vitals(baseline: Mapping[str, Vitals], now: Mapping[str, Vitals], *, handles: int = 0) -> list[str]:
    """I4: no role has more threads or file handles than before; poll it for up to a minute.

    Args:
        baseline: of the daemon at rest, after it did all that it does later.
        now: of the daemon at rest.
        handles: how many more a role may have, as when the connections of a pool come and go.
    """
    allowed = {"threads": 0, "handles": handles}
    found = [f"I4 {role}: is not running" for role in sorted(baseline.keys() - now.keys())]
    for role in sorted(baseline.keys() & now.keys()):
        for what, more in allowed.items():
            before, after = getattr(baseline[role], what), getattr(now[role], what)
            if after > before + more:
                found.append(f"I4 {role}: {after} {what}, and {before} before")
    return found


def check_said(places: Mapping[str, str], needles: Iterable[str] = NEEDLES) -> list[str]:
    """I5: none of the planted words is in what was said.

    Args:
        places: what was said, by where: a log, metrics, standard output.
        needles: the words.
    """
    folded = {place: text.casefold() for place, text in places.items()}
    return [
        f"I5 {place}: says {needle!r}"
        for needle in needles
        for place, text in folded.items()
        if needle.casefold() in text
    ]


def check_core_files(*folders: Path) -> list[str]:
    """I5: no process has left its memory in a file."""
    return [
        f"I5 {file}: is a core dump"
        for folder in folders
        for file in sorted(folder.rglob("core*"))
        if file.is_file() and file.read_bytes()[:4] == b"\x7fELF"
    ]


def measured(echoes: Iterable[Echo], down: Collection[tuple[float, float]] = ()) -> list[Echo]:
    """Leave out what was asked while the whole service was down.

    Args:
        echoes: of a peer that does nothing else.
        down: from when till when the service was down; monotonic seconds.
    """
    return [echo for echo in echoes if not any(echo.began < end and begin < echo.ended for begin, end in down)]


def check_echoes(echoes: Iterable[Echo]) -> list[str]:
    """I6: every C-ECHO was answered within a second."""
    return [
        f"I6 a C-ECHO {'was answered' if echo.answered else 'was not answered'} after {echo.seconds:.2f} s"
        for echo in echoes
        if not echo.answered or echo.seconds > ECHO_SECONDS
    ]


class _Pacs:
    """The journal of a PACS, sorted by what the checks ask."""

    def __init__(self, arrivals: Collection[Arrival]) -> None:
        self._contents: dict[str, set[str]] = defaultdict(set)
        reports: dict[str, Arrival] = {}
        segs: dict[str, Arrival] = {}
        for arrival in arrivals:
            self._contents[arrival.sop_instance_uid].add(arrival.sha256)
            if arrival.sop_class_uid == Comprehensive3DSRStorage:
                reports[arrival.sop_instance_uid] = arrival
            elif arrival.sop_class_uid == SegmentationStorage:
                segs[arrival.sop_instance_uid] = arrival
        superseded = {uid for report in reports.values() for uid in report.predecessors}
        self._current = _by_reference(
            report for report in reports.values() if report.sop_instance_uid not in superseded
        )
        self._segs = _by_reference(segs.values())

    def doubled(self) -> list[tuple[str, int]]:
        """Objects that came with several contents, and with how many."""
        return sorted((uid, len(contents)) for uid, contents in self._contents.items() if len(contents) > 1)

    def reports(self, image: str) -> list[Arrival]:
        """Reports about an image that no other one takes the place of."""
        return self._current.get(image, [])

    def segs(self, image: str) -> list[Arrival]:
        """Segmentations of an image."""
        return self._segs.get(image, [])


def _by_reference(arrivals: Iterable[Arrival]) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        for uid in arrival.references:
            found[uid].append(arrival)
    return dict(found)


def _rows(books: Books) -> Mapping[str, list[Image]]:
    rows: dict[str, list[Image]] = defaultdict(list)
    for image in books.images:
        rows[image.sop_instance_uid].append(image)
    return rows


def _wrong_with(rows: list[Image], uid: str, pacs: _Pacs) -> Iterator[str]:
    """Say what is wrong with the end of an image, whose contents each have a row."""
    yield from (f"its state is {row.state.value}, which is no end" for row in rows if row.state not in ENDED)
    yield from (
        f"it is {row.state.value} without a reason"
        for row in rows
        if row.state in {InstanceState.UNSUITABLE, InstanceState.FAILED} and not row.reason
    )
    scored = len({row.sha256 for row in rows if row.state is InstanceState.SCORED})
    reports, segs = pacs.reports(uid), pacs.segs(uid)
    if len(reports) != min(scored, 1):
        yield f"{scored} scored contents, and {len(reports)} current SR at the PACS cite it"
    if len(segs) > scored:
        yield f"{scored} scored contents, and the PACS has {len(segs)} SEG of it"
    made = {seg.sop_instance_uid for seg in segs}
    for report in reports:
        if len(report.references & made) != 1:
            yield f"its SR cites {len(report.references & made)} SEG of it that the PACS has"


def _differences(folder: Path, owned: Mapping[str, str]) -> Iterator[str]:
    """Say how the files below a folder differ from the paths that rows own, and from their content's SHA-256."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    yield from (f"{path}: no row owns it" for path in sorted(there - owned.keys()))
    yield from (f"{path}: a row owns it, and it is not there" for path in sorted(owned.keys() - there))
    for path in sorted(there & owned.keys()):
        if data_set_digest(folder / path) != owned[path]:
            yield f"{path}: is not what its row says"


def _left_in_run(run: Path) -> Iterator[str]:
    """Say which results on their way to the ledger are left: of the dead, or of the living though they rest."""
    for spool in sorted(run.glob("*.spool")):
        if not owner_is_alive(run, spool.stem):
            yield f"{spool.name}: its process is dead"
        yield from (f"{spool.name}/{file.name}: is left" for file in sorted(spool.iterdir()))
