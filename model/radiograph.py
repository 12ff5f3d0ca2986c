"""DICOM dataset -> Radiograph: what is on the film, free of how the vendor stored it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.codecs import READABLE_TRANSFER_SYNTAXES

__all__ = ["READABLE_TRANSFER_SYNTAXES", "Radiograph", "SpacingSource"]

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
    #: Completed years; None = unknown.
    age_years: float | None
    #: PatientOrientation (0020,0020), e.g. ("L", "F"); None = unknown.
    patient_orientation: tuple[str, str] | None
    sop_instance_uid: str
    sop_class_uid: str
