"""What one pass of the network over one radiograph yields: plain arrays and numbers, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import Finding, Measurement


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleIdentity:
    """Which weights gave a result."""

    name: str
    version: str
    #: SHA-256 of the weights file, lower-case hex.
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why an image is not triaged."""

    #: A stable word: "not_frontal", "not_chest", "paediatric", "lungs_implausible", "unlike_training", ...
    reason: str
    #: One sentence for a person, without patient data.
    explanation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """What a reader should know of an image that is triaged all the same."""

    #: A stable word: "heart_on_right" or "not_measured".
    word: str
    #: One sentence for a person, without patient data.
    sentence: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """One radiograph's result. Masks and saliency refer to the source's stored pixel matrix."""

    bundle: BundleIdentity
    #: One per label of the bundle that has an operating threshold.
    findings: tuple[Finding, ...]
    #: Probability of any abnormality, calibrated, 0 to 1.
    abnormal_probability: float
    #: Probability per name in LOCATIONS, meaningful only where a finding is present.
    locations: dict[str, float]
    #: Empty where the outlines are none that a chest has (`implausible_outlines`).
    measurements: tuple[Measurement, ...]
    #: bool, (3, Rows, Columns) of the source, in the order of STRUCTURES.
    masks_CHW: NDArray[np.bool_]
    #: uint8 (labels, h, w) class activation maps on the network's grid, in the order of `findings`; 255 = each map's
    #: own maximum.
    saliency_LHW: NDArray[np.uint8]
    #: Where that grid lies in the stored pixel matrix: top, left, height, width in source pixels; may reach outside.
    saliency_frame: tuple[float, float, float, float]
    #: Squared Mahalanobis distance of the image's features from the training set's.
    feature_distance: float
    #: Set when the image must not be triaged; findings are then not to be used.
    refusal: Refusal | None
    remarks: tuple[Remark, ...] = ()
    #: bool, (Rows, Columns) of the source, by label: what to outline of findings whose maps are good enough.
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
