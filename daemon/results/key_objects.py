"""The images of a revision on which something was found -> Key Object Selection (PS3.3 A.35.4), a flag for the PACS."""

from collections.abc import Iterator, Sequence
from typing import Final

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from cxr_triage.daemon.results.codes import OF_INTEREST
from cxr_triage.daemon.results.document import Report, observer, sentences
from cxr_triage.daemon.results.finishing import document_uid, equipment, finish, source_stand_in, stand_in
from cxr_triage.daemon.results.measurement_groups import ReportedImage
from cxr_triage.storage.records import ObjectKind, ObjectReference

#: Kinds that are images: referenced as such.
IMAGES: Final = frozenset({ObjectKind.SEG, ObjectKind.SC})


def build_ko(report: Report, sr: ObjectReference | None) -> KeyObjectSelectionDocument | None:
    """Build the flag of one revision: images with a finding at or above its threshold, and what shows it.

    Args:
        report: the revision.
        sr: its SR, where the profile has one.

    Returns:
        None where nothing reached its threshold: there is nothing to point at.
    """
    flagged = [image for image in report.images if any(found.present for found in image.stored.prediction.findings)]
    if not flagged:
        return None
    shown = [*_shown(flagged), *([stand_in(sr)] if sr else [])]
    profile, revision = report.profile, report.revision
    document = KeyObjectSelectionDocument(
        evidence=shown,
        content=KeyObjectSelection(
            document_title=OF_INTEREST,
            referenced_objects=shown,
            observer_device_context=observer(report.bundle),
            description=" ".join(sentences(report)),
        ),
        series_instance_uid=document_uid(ObjectKind.KO, revision, profile, "series"),
        series_number=profile.series_number(ObjectKind.KO),
        sop_instance_uid=document_uid(ObjectKind.KO, revision, profile),
        instance_number=revision.number,
        series_description=f"{profile.series_description(ObjectKind.KO)}, rev {revision.number}",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(report.bundle),
    )
    finish(document, source=report.sources[0], moment=max(image.stored.received_at for image in report.images))
    return document


def _shown(images: Sequence[ReportedImage]) -> Iterator[Dataset]:
    """Each image, and what was made of it."""
    for image in images:
        source = source_stand_in(image.stored)
        yield source
        for kind, made in image.objects.items():
            reference = stand_in(made)
            if kind in IMAGES:  # the library tells images by their size
                reference.Rows, reference.Columns = source.Rows, source.Columns
            yield reference
