"""What every document of ours says, whatever its form: about which images, by whom, and in which words."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from cxr_triage.daemon.results.codes import PLAIN_CHEST_XRAY
from cxr_triage.daemon.results.finishing import MANUFACTURER, MODEL_NAME, SOFTWARE_VERSION, device_uid
from cxr_triage.daemon.results.measurement_groups import ReportedImage
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.model.findings import Finding
from cxr_triage.model.header import items, text
from cxr_triage.model.prediction import BundleIdentity
from cxr_triage.storage.result_records import Revision

STATEMENT: Final = (
    "Research software, not a medical device: not for diagnosis. It orders the reading list; it does not read. "
    "A finding that is not reported as present is not excluded, and no image is stated to be normal."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the documents of one revision are about."""

    revision: Revision
    #: At least one, in the order in which they were received.
    images: tuple[ReportedImage, ...]
    #: Headers of the images, without pixels, in the same order.
    sources: tuple[Dataset, ...]
    profile: Profile

    @property
    def bundle(self) -> BundleIdentity:
        """The weights that the latest image was scored with."""
        return self.images[-1].stored.prediction.bundle


def observer(bundle: BundleIdentity) -> ObserverContext:
    """The observer is a device: this software with these weights (PS3.16 TID 1004)."""
    device = DeviceObserverIdentifyingAttributes(
        uid=device_uid(bundle.sha256),
        name=MODEL_NAME,
        manufacturer_name=MANUFACTURER,
        model_name=f"{MODEL_NAME} {SOFTWARE_VERSION}, {bundle.name} {bundle.version}",
        serial_number=bundle.sha256,
    )
    return ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)


def procedure(source: Dataset) -> CodedConcept:
    """The imaging that was done, in the source's words; it is not the algorithm's doing (TID 1500, row 5)."""
    for item in items(source, "ProcedureCodeSequence"):
        value, meaning = text(item, "CodeValue"), text(item, "CodeMeaning")
        scheme = text(item, "CodingSchemeDesignator")
        if 0 < len(value) <= 16 and 0 < len(scheme) <= 16 and 0 < len(meaning) <= 64:  # PS3.3 Table 8.8-1, SH and LO
            return CodedConcept(value, scheme, meaning, text(item, "CodingSchemeVersion") or None)
    return PLAIN_CHEST_XRAY


def sentences(report: Report) -> Iterable[str]:
    """What a reader must know of the whole."""
    yield STATEMENT
    if report.revision.priority_reason:
        yield f"Reading list: {report.revision.priority_reason}"
    yield _summary(report)
    if report.profile.numbers_named:
        yield from _below(report.images)
    for image in report.images:
        yield from (f"Image {image.number}: {remark.sentence}" for remark in image.stored.prediction.remarks)


def sentences_of_withdrawal(report: Report) -> Iterable[str]:
    """What a reader must know of a result that was taken back, that first."""
    withdrawal = report.revision.withdrawal
    assert withdrawal is not None
    yield (
        f"WITHDRAWN: the earlier result of this study is withdrawn (reason: {withdrawal.value}) and is not to be used."
    )
    yield "It does not order the reading list any more. This report makes no statement about the images."
    yield STATEMENT


def _summary(report: Report) -> str:
    """What reached its threshold, most probable first; nothing is said of the rest but that."""
    present = [finding for image in report.images for finding in image.stored.prediction.findings if finding.present]
    if not present:
        return "No finding reached its operating threshold: not prioritised by findings."
    most = {finding.label: finding for finding in sorted(present, key=lambda finding: finding.probability)}
    ranked = sorted(most.values(), key=lambda finding: (-finding.probability, finding.label))
    return f"At or above threshold: {_listed(ranked)}."


def _below(images: Sequence[ReportedImage]) -> Iterator[str]:
    """What did not, where the rest of the document does not tell it."""
    for image in images:
        if below := [finding for finding in image.stored.prediction.findings if not finding.present]:
            yield f"Image {image.number}: below threshold, absence is not stated: {_listed(below)}."


def _listed(findings: Iterable[Finding]) -> str:
    return ", ".join(f"{found.label} {found.probability:.2f} (threshold {found.threshold:.2f})" for found in findings)
