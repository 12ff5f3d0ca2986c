"""One revision -> the DICOM objects that say it. A pure function: no clock, no database, no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr_triage.daemon.results.document import Report
from cxr_triage.daemon.results.key_objects import build_ko
from cxr_triage.daemon.results.measurement_groups import ReportedImage
from cxr_triage.daemon.results.patient import can_say
from cxr_triage.daemon.results.picture import Picture
from cxr_triage.daemon.results.presentation_state import build_pr
from cxr_triage.daemon.results.profiles import SOP_CLASSES, Form, Profile, ReportForm
from cxr_triage.daemon.results.secondary_capture import build_sc
from cxr_triage.daemon.results.segmentation import build_seg
from cxr_triage.daemon.results.structured_report import build_sr
from cxr_triage.model.errors import ResultError
from cxr_triage.model.grayscale import is_for_processing
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind, ObjectReference, ResultObject, Revision

#: Kinds that show the source's pixels, or how they are displayed.
PICTURED = frozenset({ObjectKind.PR, ObjectKind.SC})


def sop_class(kind: ObjectKind, profile: Profile) -> UID:
    """Say what an object is to the profile's receivers."""
    return SOP_CLASSES[profile.form(kind)]


class BuiltObject(NamedTuple):
    """An object that is not yet bytes."""

    dataset: Dataset
    kind: ObjectKind
    #: The image that an object of a kind per image is about; empty for the others.
    source_sop_instance_uid: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """An image that results are about."""

    #: Without pixels.
    header: Dataset
    #: Its pixels as displayed; None where `kinds_to_make` has none of PICTURED.
    picture: Picture | None = None


def kinds_to_make(
    stored: StoredPrediction, header: Dataset, profile: Profile, made: Sequence[ResultObject]
) -> tuple[ObjectKind, ...]:
    """Which objects an image still lacks, in their order.

    A presentation state tells how a display shows stored pixels, which those for processing are not meant for.
    """
    there = {each.kind for each in made if _is_of(each, stored.sop_instance_uid, profile)}
    wanted = profile.objects - there
    return tuple(kind for kind in ObjectKind if kind.per_image and kind in wanted and can_be_of(header, kind))


def build_objects(
    revision: Revision,
    predictions: Sequence[StoredPrediction],
    sources: Mapping[str, Source],
    profile: Profile,
    *,
    made: Sequence[ResultObject] = (),
) -> list[BuiltObject]:
    """Build a revision's objects: those of its images that do not exist yet, then the documents that cite them all.

    Args:
        revision: what is reported; UIDs and times follow from it and from the predictions.
        predictions: at least one, each of another image, in the order in which the images were received.
        sources: the images by SOP Instance UID.
        profile: whom for.
        made: objects about images that earlier revisions made of these very predictions, of any profile: cited, not
            made again.

    Raises:
        ResultError: the prediction does not fit its source or cannot be coded.
    """
    built = [
        BuiltObject(_build(kind, stored, sources[stored.sop_instance_uid], profile), kind, stored.sop_instance_uid)
        for stored in predictions
        for kind in kinds_to_make(stored, sources[stored.sop_instance_uid].header, profile, made)
    ]
    images = tuple(
        ReportedImage(number=number, stored=stored, objects=_objects_of(stored, profile, made, built))
        for number, stored in enumerate(predictions, start=1)
    )
    headers = tuple(sources[stored.sop_instance_uid].header for stored in predictions)
    sayable = profile.in_words_of(partial(can_say, headers[0]))
    report = Report(revision=revision, images=images, sources=headers, profile=sayable)
    built += _documents(report)
    assert all(each.dataset.SOPClassUID == sop_class(each.kind, profile) for each in built)
    return built


def build_withdrawal(
    revision: Revision, predictions: Sequence[StoredPrediction], headers: Sequence[Dataset], profile: Profile
) -> list[BuiltObject]:
    """Build what says that the result before is withdrawn: an SR, where the profile has one.

    Args:
        revision: the withdrawal.
        predictions: of the images that the result was about.
        headers: of these images, in the same order.
        profile: whom for.
    """
    if ObjectKind.SR not in profile.objects:
        return []
    images = tuple(
        ReportedImage(number=number, stored=stored, objects={}) for number, stored in enumerate(predictions, start=1)
    )
    report = Report(revision=revision, images=images, sources=tuple(headers), profile=profile)
    return [BuiltObject(build_sr(report), ObjectKind.SR, "")]


def form_of(made: ResultObject) -> Form | None:
    """In which form an object was made; None: in none that this version makes."""
    return next((form for form, sop_class in SOP_CLASSES.items() if sop_class == made.sop_class_uid), None)


def can_be_of(source: Dataset, form: Form) -> bool:
    """Whether an object of this form can be made of an image, by its header."""
    return form is not ObjectKind.PR or not is_for_processing(source)


def build_image_stand_in(form: Form, stored: StoredPrediction, source: Source, profile: Profile) -> BuiltObject:
    """Build what stands in for an object about an image.

    Raises:
        ResultError: the prediction does not fit its source or cannot be coded.
    """
    kind = ObjectKind(form)
    return BuiltObject(_build(kind, stored, source, profile.as_stand_in(form)), kind, stored.sop_instance_uid)


def build_report_stand_in(
    form: ReportForm,
    revision: Revision,
    predictions: Sequence[StoredPrediction],
    headers: Sequence[Dataset],
    profile: Profile,
    *,
    cited: Sequence[ResultObject],
) -> BuiltObject:
    """Build what stands in for the SR of a revision, from what that was built from.

    Args:
        form: what to write.
        revision: as reported.
        predictions: as for `build_objects`.
        headers: of the images, in the same order.
        profile: whose SR it stands in for.
        cited: objects about the images which that SR cites, and this one too.

    Raises:
        ResultError: it cannot be coded.
    """
    images = tuple(
        ReportedImage(number=number, stored=stored, objects=_objects_of(stored, profile, cited, []))
        for number, stored in enumerate(predictions, start=1)
    )
    sayable = profile.as_stand_in(form).in_words_of(partial(can_say, headers[0]))
    report = Report(revision=revision, images=images, sources=tuple(headers), profile=sayable)
    return BuiltObject(build_sr(report), ObjectKind.SR, "")


def reusable(
    predictions: Sequence[StoredPrediction], made: Sequence[ResultObject], profile: Profile
) -> list[ResultObject]:
    """Which objects about images a revision uses again.

    Also those that an earlier release of this software made: an image has one of each kind per profile.
    """
    images = {stored.sop_instance_uid for stored in predictions}
    latest = {
        (each.source_sop_instance_uid, each.kind): each
        for each in made
        if each.source_sop_instance_uid in images and _is_of(each, each.source_sop_instance_uid, profile)
    }
    return list(latest.values())


def _build(kind: ObjectKind, stored: StoredPrediction, source: Source, profile: Profile) -> Dataset:
    profile = profile.in_words_of(partial(can_say, source.header))
    if kind is ObjectKind.SEG:
        return build_seg(stored, source.header, profile=profile)
    if source.picture is None:
        raise ResultError(f"{kind.value} of image {stored.sop_instance_uid} needs its pixels.")
    if kind is ObjectKind.PR:
        return build_pr(stored, source.header, source.picture.window, profile=profile)
    return build_sc(stored, source.header, source.picture, profile=profile)


def _documents(report: Report) -> list[BuiltObject]:
    """The documents of a revision; the flag points at the report, too."""
    documents: list[BuiltObject] = []
    sr = None
    if ObjectKind.SR in report.profile.objects:
        dataset = build_sr(report)
        sr = _reference(dataset)
        documents.append(BuiltObject(dataset, ObjectKind.SR, ""))
    if ObjectKind.KO in report.profile.objects and (flag := build_ko(report, sr)) is not None:
        documents.append(BuiltObject(flag, ObjectKind.KO, ""))
    return documents


def _objects_of(
    stored: StoredPrediction, profile: Profile, made: Sequence[ResultObject], built: Sequence[BuiltObject]
) -> dict[ObjectKind, ObjectReference]:
    kept = {each.kind: _reference_made(each) for each in reusable([stored], made, profile)}
    new = {each.kind: _reference(each.dataset) for each in built if each[2] == stored.sop_instance_uid}
    return {kind: reference for kind in ObjectKind if (reference := new.get(kind, kept.get(kind))) is not None}


def _is_of(made: ResultObject, image: str, profile: Profile) -> bool:
    return made.profile == profile.name and made.source_sop_instance_uid == image and made.kind in profile.objects


def _reference(dataset: Dataset) -> ObjectReference:
    return ObjectReference(
        str(dataset.SOPClassUID),
        str(dataset.SOPInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.StudyInstanceUID),
    )


def _reference_made(made: ResultObject) -> ObjectReference:
    return ObjectReference(made.sop_class_uid, made.sop_instance_uid, made.series_instance_uid, made.study_instance_uid)
