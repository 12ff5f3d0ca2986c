"""What must be so after a soak: nothing lost, nothing doubled, and nothing that grows. Violations are sentences."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path

from cxr_triage.storage.database import open_database
from cxr_triage.storage.inbox import INCOMING
from cxr_triage.storage.ledger import Housekeeping, Reporting
from cxr_triage.storage.ledger.history import History
from cxr_triage.storage.records import Counts, DeliveryState, InstanceState, RevisionState
from soak.pacs import Arrival
from soak.samples import Sample, slope
from vitals import Vitals


def at_rest(url: str, images: int) -> bool:
    """Whether the daemon has nothing left to do, all images being scored."""
    with closing(open_database(url)) as database:
        counts = Housekeeping(database).counts()
        unreported = Reporting(database).studies_to_report(1)
    return counts.instances[InstanceState.SCORED] == images and not unreported and not _unfinished(counts)


def unlike_sent(url: str, acknowledged: Collection[str], broken_off: Collection[str]) -> Iterator[str]:
    """Compare what was sent with the ledger: every acknowledged image is scored, once; nothing else is known."""
    with closing(open_database(url)) as database:
        counts = Housekeeping(database).counts()
        scored = Counter(image.sop_instance_uid for image in History(database).scored_images())
    yield from _unlike("acknowledged image", acknowledged, "prediction", scored)
    yield from (f"{count} images {state.value}" for state, count in _not_scored(counts).items())
    yield from (f"broken off, but scored: {uid}" for uid in scored.keys() & set(broken_off))
    yield from _unfinished(counts)


def unlike_delivered(arrivals: Iterable[Arrival], acknowledged: Collection[str]) -> Iterator[str]:
    """Compare what was sent with what the PACS got: each object once, one SEG and one current SR for each image."""
    came = list(arrivals)
    times = Counter(arrival.sop_instance_uid for arrival in came)
    yield from (f"{uid} came {count} times" for uid, count in times.items() if count > 1)
    superseded = set(chain.from_iterable(arrival.predecessors for arrival in came))
    known = set(acknowledged)
    segs, reports = Counter[str](), Counter[str]()
    for arrival in came:
        if arrival.is_seg:
            segs.update(known.intersection(arrival.references))
        elif arrival.sop_instance_uid not in superseded:
            reports.update(known.intersection(arrival.references))
    yield from _unlike("acknowledged image", acknowledged, "SEG at the PACS", segs)
    yield from _unlike("acknowledged image", acknowledged, "current SR at the PACS", reports)


def unlike_files(inbox: Path, images: int) -> Iterator[str]:
    """Look for files that no image owns, finished or not."""
    files = [path.relative_to(inbox) for path in inbox.rglob("*") if path.is_file()]
    unfinished = [path for path in files if path.parts[0] == INCOMING]
    if len(files) != images or unfinished:
        yield f"{len(files)} files in the inbox for {images} images, {len(unfinished)} of them unfinished"


def grown(before: Mapping[str, Vitals], after: Mapping[str, Vitals]) -> Iterator[str]:
    """Compare threads and handles of the daemon at rest, role by role."""
    for role in sorted(before.keys() | after.keys()):
        if role not in before or role not in after:
            yield f"{role}: not there all the time"
            continue
        for what in ("threads", "handles"):
            was, now = getattr(before[role], what), getattr(after[role], what)
            if now > was:
                yield f"{role}: {now} {what}, {was} after the warm-up"


def leaking(samples: list[Sample], most_bytes: float) -> Iterator[str]:
    """Look for memory that grows with the images, role by role."""
    for role in sorted(samples[0].vitals):
        grows = slope(samples, role)
        if grows > most_bytes:
            yield f"{role}: memory grows by {grows:.0f} bytes an image, {most_bytes:.0f} are allowed"


def _unlike(what: str, expected: Collection[str], of: str, found: Mapping[str, int]) -> Iterator[str]:
    yield from (f"{what} {uid}: {found.get(uid, 0)} times {of}, not once" for uid in expected if found.get(uid, 0) != 1)


def _not_scored(counts: Counts) -> dict[InstanceState, int]:
    return {state: count for state, count in counts.instances.items() if count and state is not InstanceState.SCORED}


def _unfinished(counts: Counts) -> list[str]:
    found = [f"{counts.revisions[RevisionState.OPEN]} revisions open"] if counts.revisions[RevisionState.OPEN] else []
    for destination, states in counts.deliveries.items():
        found += [
            f"{count} deliveries to {destination} {state.value}"
            for state, count in states.items()
            if count and state is not DeliveryState.STORED
        ]
    return found
