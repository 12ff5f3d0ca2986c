"""Coded concepts that are about our way of reporting, not about the chest (that vocabulary: model/findings.py)."""

from typing import Final

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from cxr_triage.daemon.results.finishing import MANUFACTURER
from cxr_triage.daemon.results.profiles import RESEARCH, Profile
from cxr_triage.daemon.results.uids import CODING_SCHEME_UID
from cxr_triage.model.findings import PRIVATE_SCHEME, Code


def concept(code: Code, profile: Profile) -> CodedConcept:
    """Give a code of the vocabulary as a content item's code, its meaning in the profile's words."""
    return CodedConcept(code.value, code.scheme, profile.meaning(code))


#: PS3.16 CID 7021. The meaning may be any text that conveys the code's (PS3.3 8.3): here it carries the warning too.
TITLE: Final = CodedConcept("126000", "DCM", f"Imaging Measurement Report ({RESEARCH})")
#: Of sentences instead of measurements: viewers take a document with the other title for TID 1500.
TITLE_OF_WORDS: Final = CodedConcept("112000", "DCM", f"Chest CAD Report ({RESEARCH})")
#: The same of a report that takes the earlier ones back.
TITLE_OF_WITHDRAWAL: Final = CodedConcept("112000", "DCM", f"Withdrawn: Chest CAD Report ({RESEARCH})")
#: PS3.16 CID 100 is extensible; what was imaged, when the source does not say.
PLAIN_CHEST_XRAY: Final = CodedConcept("399208008", "SCT", "Plain chest X-ray")
#: The one concept for every probability; its unit is 1 (UCUM).
PROBABILITY: Final = CodedConcept("122157", "DCM", "Probability")
OPERATING_THRESHOLD: Final = CodedConcept("OPERATING-THRESHOLD", PRIVATE_SCHEME, "Operating threshold of probability")
#: The probability reaches its operating threshold: PS3.16 CID 240 "Present".
PRESENT: Final = CodedConcept("52101004", "SCT", "Present")
#: It does not. That is not SNOMED CT's "Absent": nothing was excluded.
BELOW_THRESHOLD: Final = CodedConcept("BELOW-THRESHOLD", PRIVATE_SCHEME, "Below threshold, absence is not stated")
SOURCE: Final = CodedConcept("260753009", "SCT", "Source")
#: PS3.16 CID 5000: of what is written beside the codes.
ENGLISH: Final = CodedConcept("en-US", "RFC5646", "English (United States)")
#: PS3.16 CID 7010: why a Key Object Selection points at something.
OF_INTEREST: Final = CodedConcept.from_code(codes.DCM.OfInterest)
#: PS3.16 CID 7202.
SOURCE_FOR_PROCESSING: Final = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
#: What Orthanc's Stone Web Viewer calls the image of a region.
ORIGINAL_SOURCE: Final = CodedConcept.from_code(codes.DCM.OriginalSource)
PIXELS: Final = CodedConcept("{pixels}", "UCUM", "Pixels")

ANATOMICAL_STRUCTURE: Final = CodedConcept.from_code(codes.SCT.AnatomicalStructure)
ARTIFICIAL_INTELLIGENCE: Final = CodedConcept.from_code(codes.cid7162.ArtificialIntelligence)


def private_scheme() -> CodingSchemeIdentificationItem:
    """What 99CXRTRIAGE is (PS3.3 Table 8-1: designators from 99 are private)."""
    scheme = CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME, name="cxr-triage codes", responsible_organization=MANUFACTURER
    )
    # highdicom writes the UID of a registered scheme only; any that has one is to say it (PS3.3 C.12.1.1.7).
    scheme.CodingSchemeUID = CODING_SCHEME_UID
    return scheme
