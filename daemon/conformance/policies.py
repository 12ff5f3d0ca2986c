"""What holds for every association of an application entity: PDU length, how many, and who we say that we are."""

from typing import Final

from cxr_triage.daemon.conformance.markdown import table
from cxr_triage.daemon.dicom_client import MAXIMUM_PDU_BYTES
from cxr_triage.daemon.dicom_server import LOCAL_LIMIT_EXCEEDED, Limits
from cxr_triage.daemon.results.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from cxr_triage.daemon.setting_peers import DicomSettings
from cxr_triage.daemon.setting_sections import WorklistSettings

#: PS3.7 A.2.1.
APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
#: PS3.8 Table 9-21: (result, source, reason), and when; how pynetdicom does it is compared with this by a test.
CALLED_TITLE_UNKNOWN: Final = (1, 1, 7)
CALLING_TITLE_UNKNOWN: Final = (1, 1, 3)
_RESULTS: Final = {1: "1, rejected-permanent", 2: "2, rejected-transient"}
_SOURCES: Final = {1: "1, service-user", 3: "3, service-provider (presentation)"}
_REASONS: Final = {
    CALLED_TITLE_UNKNOWN: "7, called-AE-title-not-recognized",
    CALLING_TITLE_UNKNOWN: "3, calling-AE-title-not-recognized",
    LOCAL_LIMIT_EXCEEDED: "2, local-limit-exceeded",
}


def acceptor_policies() -> str:
    """Of RECEIVER."""
    default = DicomSettings()
    return _policies(
        f"{default.maximum_pdu_bytes} (`dicom.maximum_pdu_bytes`)",
        f"{default.maximum_associations} (`dicom.maximum_associations`), over all processes that share the port",
    )


def worklist_policies() -> str:
    """Of WORKLIST."""
    return _policies(
        str(Limits().maximum_pdu_bytes),
        f"{WorklistSettings().maximum_associations} (`worklist.maximum_associations`)",
        extended="of Study Root",
    )


def initiator_policies() -> str:
    """Of SENDER."""
    return _policies(
        str(MAXIMUM_PDU_BYTES),
        "per destination one for storing and one for storage commitment; per modality one; to the RIS one",
    )


def rejections(*, called: str = "", calling: str) -> str:
    """How an association is rejected: the settings that have it done, empty where there is none."""
    whens = {
        CALLED_TITLE_UNKNOWN: f"`{called}` is set, and the called AE title is not ours" if called else "",
        CALLING_TITLE_UNKNOWN: f"`{calling}` names some, and not the calling AE title",
        LOCAL_LIMIT_EXCEEDED: "the maximum number of associations is reached; try again later",
    }
    rows = [
        (_RESULTS[triple[0]], _SOURCES[triple[1]], _REASONS[triple], when) for triple, when in whens.items() if when
    ]
    return table(("result", "source", "reason", "when"), rows)


def _policies(maximum_pdu: str, associations: str, *, extended: str = "none") -> str:
    rows = [
        ("Application Context Name", APPLICATION_CONTEXT),
        ("Maximum PDU length that we receive, bytes", maximum_pdu),
        ("Maximum number of simultaneous associations", associations),
        ("Asynchronous operations", "none: one operation at a time is outstanding"),
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
        ("User identity negotiation", "none"),
        ("SOP class extended negotiation", extended),
    ]
    return table(("policy", "value"), rows)
