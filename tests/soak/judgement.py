"""What a soak asks beyond the invariants: nobody was killed, so every image is scored and every object comes once."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing

from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.result_records import RevisionState
from journal import Arrival
from soak.samples import Sample, slope


def unfinished(url: str, images: int) -> Iterator[str]:
    """Look for images that are not scored, revisions that are not reported, deliveries that are not done."""
    with closing(open_database(url)) as database:
        counts = Housekeeping(database).counts()
    expected = dict.fromkeys(InstanceState, 0) | {InstanceState.SCORED: images}
    for state, count in counts.instances.items():
        if count != expected[state]:
            yield f"{count} images are {state.value}, not {expected[state]}"
    if counts.revisions[RevisionState.OPEN]:
        yield f"{counts.revisions[RevisionState.OPEN]} revisions are open"
    for destination, states in counts.deliveries.items():
        for delivery, count in states.items():
            if count and delivery is not DeliveryState.STORED:
                yield f"{count} deliveries to {destination} are {delivery.value}"


def repeated(arrivals: Collection[Arrival]) -> Iterator[str]:
    """Look for objects that were sent more than once."""
    for uid, count in Counter(arrival.sop_instance_uid for arrival in arrivals).items():
        if count > 1:
            yield f"{uid} came {count} times"


def leaking(samples: Sequence[Sample], most_bytes: float) -> Iterator[str]:
    """Look for memory that grows with the images, role by role."""
    for role in sorted(samples[0].vitals):
        grows = slope(samples, role)
        if grows > most_bytes:
            yield f"I4 {role}: memory grows by {grows:.0f} bytes an image, {most_bytes:.0f} are allowed"
