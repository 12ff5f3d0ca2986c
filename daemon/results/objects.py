"""One revision -> the DICOM objects that say it. A pure function: no clock, no database, no network."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydicom.dataset import Dataset

from cxr_triage.daemon.results.measurement_groups import ReportedImage
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.daemon.results.segmentation import build_seg
from cxr_triage.daemon.results.structured_report import Report, build_sr
from cxr_triage.storage.records import ObjectKind, ObjectReference, ResultObject, Revision, StoredPrediction


class BuiltObject(NamedTuple):
    """An object that is not yet bytes."""

    dataset: Dataset
    kind: ObjectKind
    #: The image that a SEG is about; empty for an SR.
    source_sop_instance_uid: str


def build_objects(
    revision: Revision,
    predictions: Sequence[StoredPrediction],
    sources: Mapping[str, Dataset],
    profile: Profile | str,
    *,
    made: Sequence[ResultObject] = (),
) -> list[BuiltObject]:
    """Build a revision's objects: the SEGs that do not exist yet, then the SR that cites all of them.

    Args:
        revision: what is reported; UIDs and times follow from it and from the predictions.
        predictions: at least one, each of another image, in the order in which the images were received.
        sources: the images' headers, without pixels, by SOP Instance UID.
        profile: whom for.
        made: SEGs of earlier revisions that show these very predictions, of any profile: cited, not made again.

    Raises:
        ResultError: the prediction does not fit its source or cannot be coded.
    """
    profile = Profile(profile)
    kept = reusable_segs(predictions, made, profile)
    segs = [
        BuiltObject(build_seg(stored, sources[image], profile=profile), ObjectKind.SEG, image)
        for stored in predictions
        if (image := stored.sop_instance_uid) not in kept
    ]
    references = {image: _reference_made(seg) for image, seg in kept.items()}
    references |= {seg.source_sop_instance_uid: _reference(seg.dataset) for seg in segs}
    report = Report(
        revision=revision,
        images=tuple(
            ReportedImage(number=number, stored=stored, seg=references[stored.sop_instance_uid])
            for number, stored in enumerate(predictions, start=1)
        ),
        sources=tuple(sources[stored.sop_instance_uid] for stored in predictions),
        profile=profile,
    )
    return [*segs, BuiltObject(build_sr(report), ObjectKind.SR, "")]


def reusable_segs(
    predictions: Sequence[StoredPrediction], made: Sequence[ResultObject], profile: Profile | str
) -> dict[str, ResultObject]:
    """Which SEGs a revision uses again, by the image's SOP Instance UID.

    Also those that an earlier release of this software made: an image has one SEG per profile.
    """
    images = {stored.sop_instance_uid for stored in predictions}
    return {
        seg.source_sop_instance_uid: seg
        for seg in made
        if seg.kind is ObjectKind.SEG and seg.profile == profile and seg.source_sop_instance_uid in images
    }


def _reference(dataset: Dataset) -> ObjectReference:
    return ObjectReference(
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.StudyInstanceUID),
    )


def _reference_made(seg: ResultObject) -> ObjectReference:
    return ObjectReference(seg.sop_class_uid, seg.sop_instance_uid, seg.series_instance_uid, seg.study_instance_uid)
