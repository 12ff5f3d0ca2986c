"""Studies of our making in the archive: a radiograph under other UIDs, with results that it might have had."""

import copy
from io import BytesIO

from pydicom import dcmwrite
from pydicom.uid import generate_uid

import results
from cxr_triage.daemon.results.objects import build_objects
from cxr_triage.daemon.results.profiles import PROFILES
from cxr_triage.model.findings import Finding
from cxr_triage.storage.result_records import ObjectKind
from viewers.site import Hospital, Shown


def another_study(
    ward: Hospital, shown: Shown, *, findings: tuple[Finding, ...], profile: str = "ohif", **changes: object
) -> Shown:
    """Put a copy into the archive, with SEG and SR as our code makes them for that profile.

    Args:
        ward: whose archive.
        shown: the radiograph; its masks are the copy's.
        findings: the copy's.
        profile: for whom.
        changes: elements of the copy's header that are set.
    """
    image = copy.deepcopy(shown.image)
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword, value in changes.items():
        setattr(image, keyword, value)
    stored = results.stored(image, masks_CHW=shown.masks(), findings=findings)
    revision = results.revision(study_instance_uid=image.StudyInstanceUID)
    built = build_objects(revision, [stored], results.sources(image), PROFILES[profile])
    seg, sr = (results.written(results.of_kind(built, kind)) for kind in (ObjectKind.SEG, ObjectKind.SR))
    for each in (image, seg, sr):
        buffer = BytesIO()
        dcmwrite(buffer, each, enforce_file_format=True)
        ward.pacs.post("/instances", buffer.getvalue())
    return Shown(image=image, made={"SEG": seg, "SR": sr})
