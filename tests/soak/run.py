"""A soak: one daemon with every role, thousands of images, as many associations, half of them broken off."""

import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind  # type: ignore[attr-defined]

from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger import ReadingList
from daemons import Daemon, wait_until
from invariants import Folders, at_rest, check_rest, check_vitals
from soak import judgement
from soak.pacs import AE_TITLE, CountingPacs
from soak.samples import Sample, Samples
from soak.senders import IMAGES_PER_STUDY, Senders
from vitals import Vitals, by_role

#: Only so that a daemon that hangs fails the run.
REST_SECONDS: Final = 900
#: I4: threads and file handles are back this long after the last image.
BACK_SECONDS: Final = 60
#: What is held counts as the daemon's own at rest once it has not changed for this long.
STILL_SECONDS: Final = 10
#: Studies that a reader leaves on the list: more than are on their way to the PACS.
LEFT_UNREAD: Final = 40


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long, and how strict."""

    #: Images to be acknowledged, two to an association; as many associations in all, every other one broken off.
    images: int
    #: Images before anything is judged: caches, pools and arenas fill first.
    warm_up: int
    #: Images from one sample to the next.
    every: int
    #: Bytes that a role's memory may grow by with each image.
    most_bytes: float
    #: Modalities at the same time.
    senders: int = 3
    #: Images that may wait between the modalities and the PACS.
    most_waiting: int = 30
    #: Every so many pixels of the demo's radiographs: 2 makes the whole chain fast, 1 makes a kept image show.
    step: int = 2

    @property
    def pool_handles(self) -> int:
        """Handles that a role may have more than after the warm-up: the connections of its pool.

        Each of SQLite has two, and there are as many as were ever used at the same time: at most one per sender, and
        one was there before, in each of two receivers.
        """
        return 2 * 2 * (self.senders - 1)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a soak found."""

    #: After the warm-up, in order.
    samples: list[Sample]
    #: At rest: after the warm-up, and at the end.
    before: dict[str, Vitals]
    after: dict[str, Vitals]
    associations: int
    repeated: int
    seconds: float
    #: Sentences; none: all is well.
    violations: list[str]


class Soak:
    """One daemon, its modalities and its PACS."""

    def __init__(self, daemon: Daemon, pacs: CountingPacs, url: str, plan: Plan, samples: Samples) -> None:
        self._daemon = daemon
        self._pacs = pacs
        self._url = url
        self._plan = plan
        self._samples = samples
        self._senders = Senders(
            daemon.dicom_port,
            count=plan.senders,
            delivered=lambda: pacs.segs,
            most_waiting=plan.most_waiting,
            step=plan.step,
        )
        self._started = time.monotonic()
        self._read: set[str] = set()
        self._next_sample = 0

    def run(self) -> Outcome:
        """Warm up, measure what is held at rest, send everything, judge."""
        self._send(self._plan.warm_up)
        before, processes = self._at_rest(), self._daemon.processes()
        warm = len(self._samples.all)
        self._send(self._plan.images - self._plan.warm_up)
        seconds = time.monotonic() - self._started
        after = self._back_to(before)
        samples = self._samples.all[warm:]
        return Outcome(
            samples=samples,
            before=before,
            after=after,
            associations=self._senders.associations,
            repeated=self._senders.books.repeated,
            seconds=seconds,
            violations=[
                *(["a process of the daemon was replaced"] if self._daemon.processes() != processes else []),
                *self._not_back(before, after),
                *judgement.leaking(samples, self._plan.most_bytes),
                *self._lost_or_doubled(),
            ],
        )

    def _send(self, images: int) -> None:
        """Send so many, and wait until all of it is done."""
        goal = self._senders.books.images + images
        with closing(open_database(self._url)) as database:
            self._senders.send(2 * images // IMAGES_PER_STUDY, meanwhile=lambda: self._look(database))
            assert self._senders.books.images == goal

            def done() -> bool:
                self._look(database)
                return at_rest(self._url)

            wait_until(done, seconds=REST_SECONDS, what=f"{goal} images scored, reported and delivered")

    def _look(self, database: Database) -> None:
        """Every so many images: sample, and use the roles that no image goes through."""
        if self._pacs.segs < self._next_sample:
            return
        self._next_sample += self._plan.every
        self._read_studies(ReadingList(database))
        _ask_worklist(self._daemon.worklist_port)
        _get(self._daemon.web_port, "readyz")
        scored = _metric(_get(self._daemon.web_port, "metrics"), "cxr_triage_images_scored_total")
        self._samples.add(
            Sample(
                seconds=time.monotonic() - self._started,
                associations=self._senders.associations,
                acknowledged=self._senders.books.images,
                scored=scored,
                delivered=self._pacs.segs,
                vitals=self._vitals(),
            )
        )

    def _read_studies(self, reading_list: ReadingList) -> None:
        """Take the older studies off the list, as a reader does: it stays as long as it is in a hospital."""
        with self._senders.books.lock:
            old = [study for study in list(self._senders.books.acknowledged)[:-LEFT_UNREAD] if study not in self._read]
        self._read.update(study for study in old if reading_list.finish(study, actor="soak"))

    def _vitals(self) -> dict[str, Vitals]:
        assert self._daemon.process is not None
        return by_role(self._daemon.process.pid)

    def _at_rest(self) -> dict[str, Vitals]:
        """What is held once nothing of it changes any more."""
        last: deque[dict[str, tuple[int, int]]] = deque(maxlen=STILL_SECONDS)

        def still() -> bool:
            last.append({role: (each.threads, each.handles) for role, each in self._vitals().items()})
            time.sleep(1)
            return len(last) == STILL_SECONDS and all(each == last[0] for each in last)

        wait_until(still, seconds=BACK_SECONDS, what="threads and handles of the daemon at rest do not change")
        return self._vitals()

    def _back_to(self, before: dict[str, Vitals]) -> dict[str, Vitals]:
        """What is held when it is back, or else a minute after the last image."""
        deadline = time.monotonic() + BACK_SECONDS
        while self._not_back(before, self._vitals()) and time.monotonic() < deadline:
            time.sleep(1)
        return self._vitals()

    def _not_back(self, before: dict[str, Vitals], now: dict[str, Vitals]) -> list[str]:
        return check_vitals(before, now, handles=self._plan.pool_handles)

    def _lost_or_doubled(self) -> Iterator[str]:
        books, arrivals = self._senders.books, list(self._pacs.arrivals())
        acknowledged = [sent for images in books.acknowledged.values() for sent in images]
        folders = Folders.below(self._daemon.folder)
        offered = [*acknowledged, *books.broken_off]
        yield from judgement.unfinished(self._url, len(acknowledged))
        yield from judgement.repeated(arrivals)
        yield from check_rest(self._url, folders, acknowledged=acknowledged, offered=offered, arrivals=arrivals)


@contextmanager
def soak(folder: Path, plan: Plan, *, url: str = "") -> Iterator[Soak]:
    """Start what a soak needs; it ends with the block.

    Args:
        folder: empty; the daemon's, and of `samples.csv` and `arrivals.jsonl`.
        plan: how long, and how strict.
        url: of an empty database; a SQLite file in the folder unless given.
    """
    url = url or f"sqlite:///{folder / 'triage.db'}"
    with (
        CountingPacs(folder / "arrivals.jsonl").running() as pacs,
        Samples.written_to(folder / "samples.csv") as samples,
        Daemon(folder, destinations={"pacs": (AE_TITLE, pacs.port)}, database=url) as daemon,
    ):
        yield Soak(daemon, pacs, url, plan, samples)


def _get(port: int, page: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def _metric(page: str, name: str) -> int:
    [value] = [line.split()[-1] for line in page.splitlines() if line.startswith(f"{name} ")]
    return int(float(value))


def _ask_worklist(port: int) -> None:
    """Query the whole list, as a station does."""
    identifier = Dataset()
    identifier.PatientName = ""
    identifier.StudyInstanceUID = ""
    ae = AE(ae_title="SOAKSTATION")
    ae.add_requested_context(ModalityWorklistInformationFind)
    association = ae.associate("127.0.0.1", port, ae_title="CXRLIST")
    assert association.is_established, "the worklist does not answer"
    answers = list(association.send_c_find(identifier, ModalityWorklistInformationFind))
    association.release()
    assert answers[-1][0].Status == 0, "the worklist did not answer to the end"
