"""Chapter 8.3: every code that our objects hold, from the tables that they are made with."""

from collections.abc import Iterable
from typing import Final

from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes as standard
from pydicom.sr.coding import Code as StandardCode

from cxr_triage.daemon.conformance.markdown import table, text
from cxr_triage.daemon.results import codes
from cxr_triage.daemon.results.meanings import MEANINGS
from cxr_triage.daemon.results.measurement_groups import UNITS
from cxr_triage.daemon.results.rejection_note import TITLES
from cxr_triage.daemon.results.uids import CODING_SCHEME_UID
from cxr_triage.model.findings import (
    ABNORMALITIES,
    MEASURED_STRUCTURE,
    MEASUREMENT_CODES,
    PRIVATE_SCHEME,
    QUALIFIER_CODES,
    SITES,
    STRUCTURES,
    THIRDS,
    Code,
)

#: Concepts that templates and IODs prescribe; meanings are the standard's.
PRESCRIBED: Final = (
    standard.DCM.AlgorithmFamily,
    standard.DCM.AlgorithmManufacturer,
    standard.DCM.AlgorithmName,
    standard.DCM.AlgorithmParameters,
    standard.DCM.AlgorithmVersion,
    standard.DCM.Comment,
    standard.DCM.ComputedRadiography,
    standard.DCM.Device,
    standard.DCM.DeviceObserverManufacturer,
    standard.DCM.DeviceObserverModelName,
    standard.DCM.DeviceObserverName,
    standard.DCM.DeviceObserverSerialNumber,
    standard.DCM.DeviceObserverUID,
    standard.DCM.DigitalRadiography,
    standard.DCM.Finding,
    standard.DCM.Findings,
    standard.DCM.GeometricPurposeOfRegion,
    standard.DCM.HorizontalPixelSpacing,
    standard.DCM.ImageLibrary,
    standard.DCM.ImageLibraryGroup,
    standard.DCM.ImageRegion,
    standard.DCM.ImagingMeasurements,
    standard.DCM.KeyObjectDescription,
    standard.DCM.LanguageOfContentItemAndDescendants,
    standard.DCM.MeasurementGroup,
    standard.DCM.Modality,
    standard.DCM.ObserverType,
    standard.DCM.PatientOrientationColumn,
    standard.DCM.PatientOrientationRow,
    standard.DCM.PixelDataColumns,
    standard.DCM.PixelDataRows,
    standard.DCM.ProcedureReported,
    standard.DCM.ProcessingEquipment,
    standard.DCM.ReferencedSegmentationFrame,
    standard.DCM.SegmentationImageDerivation,
    standard.DCM.SourceImageForSegmentation,
    standard.DCM.SourceOfMeasurement,
    standard.DCM.TrackingIdentifier,
    standard.DCM.TrackingUniqueIdentifier,
    standard.DCM.VerticalPixelSpacing,
    standard.SCT.BoundedBy,
    standard.SCT.FindingSite,
    standard.SCT.MeasurementMethod,
    standard.SCT.TopographicalModifier,
    standard.UCUM.Millimeter,
)
_SCHEMES: Final = (
    ("DCM", "1.2.840.10008.2.16.4", "DICOM Controlled Terminology (PS3.16 Annex D)"),
    ("SCT", "2.16.840.1.113883.6.96", "SNOMED CT"),
    ("UCUM", "2.16.840.1.113883.6.8", "Unified Code for Units of Measure"),
    ("RFC5646", "2.16.840.1.113883.6.316", "language tags"),
    (PRIVATE_SCHEME, CODING_SCHEME_UID, "ours: what neither DICOM, SNOMED CT, LOINC nor RadLex was found to have"),
)

AnyCode = Code | CodedConcept | StandardCode


def terms() -> str:
    """The chapter."""
    return text(
        "terms",
        schemes=table(("designator", "UID", "scheme"), _SCHEMES),
        findings=codes_table((each.code, f"finding `{each.name}`") for each in ABNORMALITIES),
        structures=codes_table(_sites()),
        measurements=codes_table(_measurements()),
        reporting=codes_table((code, "") for code in _reporting()),
        prescribed=codes_table((code, "") for code in PRESCRIBED),
        languages=", ".join(f"`{language}`" for language in MEANINGS),
    )


def codes_table(rows: Iterable[tuple[AnyCode, str]]) -> str:
    """Codes, and what each is for where its meaning does not say so."""
    cells = [(*_cells(code), use) for code, use in rows]
    header = ("scheme", "code value", "code meaning", "used for")
    return table(header, cells) if any(use for *_, use in cells) else table(header[:3], [cell[:3] for cell in cells])


def _cells(code: AnyCode) -> tuple[str, str, str]:
    scheme = code.scheme if isinstance(code, Code) else code.scheme_designator
    return scheme, code.value, code.meaning


def _sites() -> list[tuple[AnyCode, str]]:
    outlined: list[tuple[AnyCode, str]] = [(each.code, f"structure `{each.name}`") for each in STRUCTURES]
    told = [(code, "finding site") for name, code in SITES.items() if name not in {each.name for each in STRUCTURES}]
    return [*outlined, *told, *((code, "third of the lungs' height") for code in THIRDS.values())]


def _measurements() -> list[tuple[AnyCode, str]]:
    measured = [
        (code, f"{_words(name)}, in the group of {MEASURED_STRUCTURE[name]}")
        for name, code in MEASUREMENT_CODES.items()
    ]
    qualified = [(code, f"qualifier: {qualifier}") for qualifier, code in QUALIFIER_CODES.items()]
    units = [(code, f"unit `{unit}`") for unit, code in UNITS.items()]
    return [*measured, *qualified, *units]


def _reporting() -> list[CodedConcept]:
    """Every concept that the reporting room names, and the titles of rejection notes."""
    named = [code for code in vars(codes).values() if isinstance(code, CodedConcept)]
    titles = {(title.scheme_designator, title.value): title for title in TITLES.values()}
    return [*named, *titles.values()]


def _words(name: str) -> str:
    return name.replace("_", " ").lower()
