"""Destinations with and without rejection notes, and what they are told."""

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Housekeeping, Rejections
from cxr_triage.storage.result_records import ObjectKind, ResultObject
from deliveries import NEVER, Pacs
from sites import Site, courier

EVERYTHING = (
    SegmentationStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    BasicTextSRStorage,
    KeyObjectSelectionDocumentStorage,
)
#: Two images, each with a study and a SOP Instance UID that tests know.
STUDY, FIRST, SECOND = "1.2.3", "1.2.3.1", "1.2.3.2"


def settle(
    site: Site,
    notes: Mapping[str, bool],
    *,
    profile: str = "weasis",
    ledger: Rejections | None = None,
    pacs: Mapping[str, Pacs] | None = None,
) -> dict[str, list[str]]:
    """Deliver, and make rejection notes, until nothing is left to do.

    Args:
        site: the ledger and its folders.
        notes: destinations by name, and whether they take notes.
        profile: what they get.
        ledger: of the rejections, where it is a special one.
        pacs: the receivers, where they are special ones.

    Returns:
        SOP Instance UIDs of what each was sent, in the order in which it came.
    """
    told: dict[str, list[str]] = {}
    with ExitStack() as served:
        ports = {}
        for name in notes:
            receiver = (pacs or {}).get(name, Pacs())
            ports[name] = served.enter_context(receiver.serving(*EVERYTHING))
            told[name] = receiver.came
        maker = site.rejections(*((name, profile) for name, takes in notes.items() if takes), ledger=ledger)
        _deliver_all(site, ports)
        while maker.make_pending() or maker.waits:
            site.clock.now += timedelta(seconds=20)
            _deliver_all(site, ports)
    return told


def _deliver_all(site: Site, ports: Mapping[str, int]) -> None:
    for name, port in ports.items():
        deliver(site, name, port)


def left(site: Site, name: str) -> bool:
    """Whether anything is still to be sent to a destination that does not wait for a person."""
    counts = Housekeeping(site.database).counts()
    return counts.deliveries[name][DeliveryState.PENDING] > counts.held_back.get(name, 0)


def deliver(site: Site, name: str, port: int) -> None:
    """Send a destination what is due for it."""
    sender = courier(site, name, port)
    while left(site, name):
        sender.deliver_batch(NEVER)


def report(site: Site, *names: str, image: str = FIRST, profile: str = "weasis", **tags: Any) -> list[ResultObject]:
    """Score an image and report its study to destinations; what is new."""
    before = {each.sop_instance_uid for each in site.reporting.objects()}
    site.score(StudyInstanceUID=STUDY, SOPInstanceUID=image, **tags)
    site.report_to(*((name, profile) for name in names or ("pacs",)))
    return [each for each in site.reporting.objects() if each.sop_instance_uid not in before]


def uids(made: list[ResultObject], *kinds: ObjectKind) -> set[str]:
    """Name those of some kinds, or of all."""
    return {each.sop_instance_uid for each in made if not kinds or each.kind in kinds}


def dataset(site: Site, made: ResultObject) -> Dataset:
    """Read an object."""
    return dcmread(site.outbox.absolute(made.path))


def notes(site: Site) -> list[Dataset]:
    """Read every note, oldest first."""
    return [dataset(site, each) for each in site.reporting.objects() if each.kind is ObjectKind.NOTE]


def title(note: Dataset) -> str:
    """Tell why a note rejects."""
    return str(note.ConceptNameCodeSequence[0].CodeValue)


def rejected(note: Dataset) -> set[str]:
    """Name what a note rejects: as evidence, and in its content alike (PS3.3 C.17.6.2.1)."""
    pointed_at = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in note.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }
    [study] = note.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        each.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for each in series.ReferencedSOPSequence
    }
    assert pointed_at == evidence
    return {str(uid) for uid in evidence}
