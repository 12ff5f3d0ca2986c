"""DICOM dataset -> Radiograph: what is on the film, free of how the vendor stored it."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from cxr_triage.model.codecs import decode, pixel_layout
from cxr_triage.model.grayscale import displayed
from cxr_triage.model.header import items, number, numbers, open_dataset, quiet_pydicom, text

SpacingSource = Literal["calibrated", "detector"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Radiograph:
    """One frontal or other projection radiograph, as a person would see it on the default display."""

    #: float32, [0, 1], bright = dense (MONOCHROME2 sense), in the source's stored pixel matrix.
    pixels_HW: NDArray[np.float32]
    #: Row and column spacing, mm; None where the source gives none.
    spacing_mm: tuple[float, float] | None
    #: "calibrated" = PixelSpacing that is calibrated to the patient; "detector" = ImagerPixelSpacing only.
    spacing_source: SpacingSource | None
    #: ViewPosition (0018,5101): "PA", "AP", "LL", "RL", ...; empty = unknown.
    view: str
    #: BodyPartExamined or the anatomic region's meaning, upper case; empty = unknown.
    body_part: str
    #: Age at the study, years; a fraction where the source gives months, weeks or days; None = unknown.
    age_years: float | None
    #: PatientOrientation (0020,0020), e.g. ("L", "F"); None = unknown.
    patient_orientation: tuple[str, str] | None
    sop_instance_uid: str
    sop_class_uid: str
    #: PatientSpeciesDescription (0010,2201) or the species code's meaning, upper case; empty = a person, or unknown.
    species: str = ""
    #: Height of a pixel through its width: 1 for square pixels.
    pixel_aspect: float = 1.0


#: View Code Sequence (0054,0220), CID 4010 "DX View": SNOMED CT, and SNOMED-RT as older objects have it.
VIEW_BY_CODE: Final = {
    "272479007": "PA",  # postero-anterior
    "R-40888": "PA",
    "R-10214": "PA",
    "399348003": "AP",  # antero-posterior
    "R-10206": "AP",
    "399173006": "LL",  # left lateral
    "R-10236": "LL",
    "399198007": "RL",  # right lateral
    "R-10232": "RL",
    "399067008": "LATERAL",  # lateral projection
    "R-102CD": "LATERAL",
}

#: Value multiplicity of the spacing attributes (PS3.3 10.7.1.3): row spacing, then column spacing.
SPACING_VALUES: Final = 2
#: Spacings that agree to this share are the same number, written with other digits.
SAME_SPACING: Final = 1e-3
MM_LIMITS: Final = (0.01, 10.0)
#: A pixel that is longer than this in one direction is a mistake in the header: no detector has such.
MAX_PIXEL_ASPECT: Final = 2.0

#: Age String (PS3.5 6.2, AS): three digits and a unit; some writers leave out leading zeros.
AGE_STRING: Final = re.compile(r"(\d{1,3})([DWMY])")
YEARS_PER_UNIT: Final = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
#: Beyond it an age is a placeholder.
MAX_AGE_YEARS: Final = 130

#: Anatomical directions of Patient Orientation (PS3.3 C.7.6.1.1.1).
DIRECTION: Final = re.compile(r"[APRLHF]{1,3}")


def read_radiograph(path: Path) -> Radiograph:
    """Read a DICOM file as a person would see it on the default display.

    Args:
        path: a DICOM Part 10 file.

    Raises:
        UnreadableImageError: it is not a single monochrome image whose pixels can be read; says why.
        OSError: the file could not be read; trying again may help.
    """
    with quiet_pydicom():
        dataset = open_dataset(path)
        layout = pixel_layout(dataset)
        pixels_HW = displayed(decode(dataset, layout), layout, dataset)
        spacing_mm, spacing_source = _spacing(dataset)
        return Radiograph(
            pixels_HW=pixels_HW,
            spacing_mm=spacing_mm,
            spacing_source=spacing_source,
            view=_view(dataset),
            body_part=_body_part(dataset),
            age_years=_age_years(dataset),
            patient_orientation=_patient_orientation(dataset),
            sop_instance_uid=text(dataset, "SOPInstanceUID"),
            sop_class_uid=text(dataset, "SOPClassUID"),
            species=_species(dataset),
            pixel_aspect=_pixel_aspect(dataset, spacing_mm),
        )


def _spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, SpacingSource | None]:
    """Millimetres between rows and between columns, and where they are measured (PS3.3 10.7.1)."""
    patient = _pair(dataset, "PixelSpacing")
    detector = _pair(dataset, "ImagerPixelSpacing") or _pair(dataset, "NominalScannedPixelSpacing")
    if patient and _is_calibrated(dataset, patient, detector):
        return patient, "calibrated"
    # Without calibration, Pixel Spacing repeats the detector's; alone, "it cannot be determined" (10.7.1.1).
    detector = detector or patient
    magnification = number(dataset, "EstimatedRadiographicMagnificationFactor")
    if detector and magnification and magnification > 1:
        # (0018,1114) is the ratio of the distances to detector and to patient: the same as calibration by GEOMETRY.
        return (detector[0] / magnification, detector[1] / magnification), "calibrated"
    return (detector, "detector") if detector else (None, None)


def _is_calibrated(dataset: Dataset, patient: tuple[float, float], detector: tuple[float, float] | None) -> bool:
    if text(dataset, "PixelSpacingCalibrationType").upper() in ("GEOMETRY", "FIDUCIAL"):
        return True
    # Other values than the detector's mean that the image was corrected or calibrated (10.7.1.1).
    return detector is not None and not np.allclose(patient, detector, rtol=SAME_SPACING, atol=0)


def _pixel_aspect(dataset: Dataset, spacing_mm: tuple[float, float] | None) -> float:
    """Height through width; Pixel Aspect Ratio counts where no spacing is given (PS3.3 C.7.6.3.1.7)."""
    sides = spacing_mm or numbers(dataset, "PixelAspectRatio")
    if len(sides) != SPACING_VALUES or not all(side > 0 for side in sides):
        return 1.0
    aspect = sides[0] / sides[1]
    return aspect if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT else 1.0


def _pair(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    found = numbers(dataset, keyword)
    if len(found) != SPACING_VALUES or not all(MM_LIMITS[0] <= spacing <= MM_LIMITS[1] for spacing in found):
        return None
    return found[0], found[1]


def _view(dataset: Dataset) -> str:
    view = text(dataset, "ViewPosition").upper()
    codes = [text(item, "CodeValue") for item in items(dataset, "ViewCodeSequence")]
    return view or next((VIEW_BY_CODE[code] for code in codes if code in VIEW_BY_CODE), "")


def _body_part(dataset: Dataset) -> str:
    regions = [text(item, "CodeMeaning") for item in items(dataset, "AnatomicRegionSequence")]
    return (text(dataset, "BodyPartExamined") or next(iter(regions), "")).upper()


def _species(dataset: Dataset) -> str:
    codes = [text(item, "CodeMeaning") for item in items(dataset, "PatientSpeciesCodeSequence")]
    return (text(dataset, "PatientSpeciesDescription") or next(iter(codes), "")).upper()


def _patient_orientation(dataset: Dataset) -> tuple[str, str] | None:
    parts = text(dataset, "PatientOrientation").upper().split("\\")
    if len(parts) != 2 or not all(DIRECTION.fullmatch(part) for part in parts):
        return None
    return parts[0], parts[1]


def _age_years(dataset: Dataset) -> float | None:
    """Patient's Age, else from birth and study date: anonymised objects keep the first and lose the second."""
    stated = AGE_STRING.fullmatch(text(dataset, "PatientAge").upper())
    age = int(stated[1]) * YEARS_PER_UNIT[stated[2]] if stated else None
    if not age:  # "000Y" is what some writers make of an unknown age
        computed = _age_by_dates(dataset)
        age = age if computed is None else computed
    return age if age is not None and 0 <= age <= MAX_AGE_YEARS else None


def _age_by_dates(dataset: Dataset) -> float | None:
    born = _date(text(dataset, "PatientBirthDate"))
    studied = next(filter(None, (_date(text(dataset, key)) for key in ("StudyDate", "AcquisitionDate"))), None)
    if born is None or studied is None:
        return None
    years = studied.year - born.year - ((studied.month, studied.day) < (born.month, born.day))
    return float(years)


def _date(value: str) -> date | None:
    """A DA value (PS3.5 6.2); "1993.08.22" is its form of before 1993."""
    try:
        return date.fromisoformat(value.replace(".", "-"))
    except ValueError:
        return None
