"""The images of a revision on which something was found -> Key Object Selection (PS3.3 A.35.4), a flag for the PACS."""

from collections.abc import Iterator, Sequence
from typing import Final

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from cxr_triage.daemon.results.codes import OF_INTEREST
from cxr_triage.daemon.results.document import Report, observer, sentences
from cxr_triage.daemon.results.finishing import document_uid, equipment, finish, numbered, source_stand_in, stand_in
from cxr_triage.daemon.results.measurement_groups import ReportedImage
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.model.prediction import BundleIdentity
from cxr_triage.storage.result_records import ObjectKind, ObjectReference, Revision

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
    document = selection(
        ObjectKind.KO,
        report.revision,
        report.profile,
        bundle=report.bundle,
        title=OF_INTEREST,
        objects=[*_shown(flagged), *([stand_in(sr)] if sr else [])],
        description=" ".join(sentences(report)),
    )
    finish(document, source=report.sources[0], moment=max(image.stored.received_at for image in report.images))
    return document


def selection(
    kind: ObjectKind,
    revision: Revision,
    profile: Profile,
    *,
    bundle: BundleIdentity,
    title: CodedConcept,
    objects: Sequence[Dataset],
    description: str,
) -> KeyObjectSelectionDocument:
    """Build a Key Object Selection of a revision, to be finished (PS3.16 TID 2010).

    Args:
        kind: what it is to us: which series it stands in.
        revision: whose.
        profile: whom for.
        bundle: the weights that it is about.
        title: why it points at them (PS3.16 CID 7010).
        objects: what it points at, and its evidence (PS3.3 C.17.6.2.1).
        description: the same in words.
    """
    return KeyObjectSelectionDocument(
        evidence=objects,
        content=KeyObjectSelection(
            document_title=title,
            referenced_objects=objects,
            observer_device_context=observer(bundle),
            description=description,
        ),
        series_instance_uid=document_uid(kind, revision, profile, "series"),
        series_number=profile.series_number(kind),
        sop_instance_uid=document_uid(kind, revision, profile),
        instance_number=revision.number,
        series_description=numbered(profile.series_description(kind), revision.number),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(bundle),
    )


def image_stand_in(referenced: ObjectReference, *, rows: int, columns: int) -> Dataset:
    """A data set of which the library takes a reference to an image: it tells images by their size."""
    dataset = stand_in(referenced)
    dataset.Rows, dataset.Columns = rows, columns
    return dataset


def _shown(images: Sequence[ReportedImage]) -> Iterator[Dataset]:
    """Each image, and what was made of it."""
    for image in images:
        source = source_stand_in(image.stored)
        yield source
        for kind, made in image.objects.items():
            is_image = kind in IMAGES
            yield image_stand_in(made, rows=source.Rows, columns=source.Columns) if is_image else stand_in(made)
