"""Objects that are not to be used any more -> rejection note (IHE RAD TF-2 4.66), a Key Object Selection."""

from collections.abc import Mapping
from typing import Final

from highdicom.ko import KeyObjectSelectionDocument
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from cxr_triage.daemon.results.finishing import finish, stand_in
from cxr_triage.daemon.results.key_objects import IMAGES, image_stand_in, selection
from cxr_triage.daemon.results.profiles import RESEARCH, Profile
from cxr_triage.storage.result_records import ObjectKind, ObjectReference, Reason, Rejection, ResultObject

#: Document titles (PS3.16 CID 7010) that make a Key Object Selection a rejection note, by why. What is superseded may
#: still be looked at on demand, as Image Managers let readers do with the first (IHE RAD TF-2 4.66.4.1.3): it was right
#: about the image that there was. Data Retention Policy Expired (113039) is nothing that a sender of results decides.
TITLES: Final[Mapping[Reason, CodedConcept]] = {
    Reason.SUPERSEDED: CodedConcept.from_code(codes.DCM.RejectedForQualityReasons),
    Reason.QUALITY: CodedConcept.from_code(codes.DCM.RejectedForQualityReasons),
    Reason.PATIENT_SAFETY: CodedConcept.from_code(codes.DCM.RejectedForPatientSafetyReasons),
    Reason.WORKLIST_ENTRY: CodedConcept.from_code(codes.DCM.IncorrectModalityWorklistEntry),
}


def build_note(rejection: Rejection, header: Dataset, profile: Profile) -> KeyObjectSelectionDocument:
    """Build the note about what one destination has.

    Args:
        rejection: what it has and is not to use, and what stands instead.
        header: of an image of the study, without pixels.
        profile: the destination's.
    """
    revision = rejection.revision
    document = selection(
        ObjectKind.NOTE,
        revision,
        profile,
        bundle=rejection.predictions[-1].prediction.bundle,
        title=TITLES[rejection.reason],
        objects=[_reference(made) for made in rejection.objects],
        description=_why(rejection),
    )
    finish(document, source=header, moment=revision.created_at)
    return document


def _reference(made: ResultObject) -> Dataset:
    """Of an image as such; its size is nobody's business here."""
    named = ObjectReference(
        made.sop_class_uid, made.sop_instance_uid, made.series_instance_uid, made.study_instance_uid
    )
    return image_stand_in(named, rows=1, columns=1) if made.kind in IMAGES else stand_in(named)


def _why(rejection: Rejection) -> str:
    whose = f"Results of research software ({RESEARCH}), not to be used any more"
    if rejection.reason is Reason.SUPERSEDED:
        return f"{whose}: superseded by revision {rejection.revision.number} of the result."
    return f"{whose}: the result was withdrawn by a person, reason: {rejection.reason.value}."
