"""A study's predictions -> SR document, of the form that the profile asks for."""

from collections.abc import Callable
from typing import Any, Final

from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, EnhancedSR
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from cxr_triage.daemon.results.basic_text import basic_text, withdrawal_text
from cxr_triage.daemon.results.codes import private_scheme
from cxr_triage.daemon.results.document import Report
from cxr_triage.daemon.results.finishing import document_uid, equipment, finish, numbered, source_stand_in, stand_in
from cxr_triage.daemon.results.measurement_report import measurement_report
from cxr_triage.daemon.results.profiles import WITHDRAWN_SERIES, ReportForm
from cxr_triage.storage.result_records import ObjectKind

Document = Comprehensive3DSR | ComprehensiveSR | EnhancedSR


class BasicTextSR(EnhancedSR):
    """A Basic Text SR: the modules of an Enhanced SR, its content without numbers (PS3.3 A.35.1.3)."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.SOPClassUID = self.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage


_FORMS: Final[dict[ReportForm, tuple[type[Document], Callable[[Report], Dataset]]]] = {
    ReportForm.COMPREHENSIVE_3D: (Comprehensive3DSR, measurement_report),
    ReportForm.COMPREHENSIVE: (ComprehensiveSR, measurement_report),
    ReportForm.BASIC_TEXT: (BasicTextSR, basic_text),
}


def build_sr(report: Report) -> Document:
    """Build the SR of one revision: complete, preliminary, and unverified, since no person has seen it.

    One that takes a result back is of the same form, as its destinations take it, and has sentences alone.
    """
    revision, profile = report.revision, report.profile
    predecessors = revision.predecessors.get(profile.site_name, ())
    form, content = _FORMS[profile.report]
    description = profile.series_description(ObjectKind.SR)
    if revision.withdrawal is not None:
        content, description = withdrawal_text, WITHDRAWN_SERIES
    document = form(
        evidence=evidence(report),
        content=content(report),
        series_instance_uid=document_uid(ObjectKind.SR, revision, profile, "series"),
        series_number=profile.series_number(ObjectKind.SR),
        sop_instance_uid=document_uid(ObjectKind.SR, revision, profile),
        instance_number=revision.number,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=[stand_in(each) for each in predecessors] or None,
        series_description=numbered(description, revision.number),
        coding_schemes=[private_scheme()],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(report.bundle),
    )
    latest = max(image.stored.received_at for image in report.images)
    moment = latest if revision.withdrawal is None else revision.created_at
    finish(document, source=report.sources[0], moment=moment)
    return document


def evidence(report: Report) -> list[Dataset]:
    """The images, and all that was made of them."""
    sources = [source_stand_in(image.stored) for image in report.images]
    return sources + [stand_in(made) for image in report.images for made in image.objects.values()]
