"""A weights bundle: safetensors and the JSON card that says what they mean and how good they are.

Nothing about a set of weights lives in code: labels and their order, calibration, thresholds, the gate's limit, the
data, the measured figures and the patients of each split all travel on the card.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from cxr_triage.model.errors import BundleError, ConfigurationError
from cxr_triage.model.findings import ABNORMALITY_BY_NAME, LOCATIONS, STRUCTURES
from cxr_triage.model.prediction import BundleIdentity

CARD_NAME: Final = "card.json"
WEIGHTS_NAME: Final = "weights.safetensors"
#: The bundle that ships with the package.
BUNDLED: Final = Path(__file__).parent / "bundles" / "fourth"
#: Layout of the card that this version reads and writes.
CARD_FORMAT: Final = 2

EncoderName = Literal["densenet121", "efficientnet_lite0"]
#: How feature maps become what the heads read: the mean of the last stage, or more of the last three.
PoolingName = Literal["mean", "pyramid"]


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """What rebuilds the network before its weights are loaded. Travels in the bundle card."""

    encoder: EncoderName
    #: Side of the square input, pixels; a multiple of 32.
    input_size: int
    #: Number of abnormality outputs, auxiliary ones included.
    abnormalities: int
    locations: int
    structures: int
    #: Decoder channels at strides 16, 8, 4 and 2.
    decoder_channels: tuple[int, int, int, int] = (128, 64, 48, 32)
    dropout: float = 0.2
    pooling: PoolingName = "mean"
    #: Whether the network looks twice: at the whole frame, then at the rectangle around the lungs.
    closer_look: bool = False
    #: Whether outlines have deeper blocks of their own; efficientnet_lite0 alone.
    own_outlining: bool = False

    def __post_init__(self) -> None:
        if self.own_outlining and self.encoder != "efficientnet_lite0":
            raise ValueError(f"outlines cannot have blocks of their own beside the encoder {self.encoder}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """From a raw logit to a calibrated logit: scale x logit + offset."""

    scale: float
    offset: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingPoint:
    """A threshold and what it does, measured on the images that it was chosen on."""

    #: Share of the positives that reach the threshold: what was asked for.
    sensitivity: float
    #: Share of the negatives that stay below it.
    specificity: float
    #: On the calibrated probability.
    threshold: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Whereabouts:
    """What a label's saliency map was shown to tell of where a finding lies: measured, or not said."""

    side: bool = False
    third: bool = False
    #: Share of the map's maximum from which on it is outlined; None: no outline.
    outline_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCard:
    """One reported abnormality of the network."""

    #: A name in model.findings.ABNORMALITIES.
    name: str
    calibration: Calibration
    #: By rising sensitivity; the card says which of them is meant where nobody chose.
    operating_points: tuple[OperatingPoint, ...]
    #: Area under the ROC curve with its 95 % interval; None where the images could not tell.
    auc: tuple[float, float, float] | None
    #: Whether a finding of this label may raise a study's priority where the site does not say otherwise.
    for_triage: bool
    whereabouts: Whereabouts = Whereabouts()

    def at(self, sensitivity: float) -> OperatingPoint:
        """The operating point of a sensitivity.

        Raises:
            KeyError: the card has none for it.
        """
        return {point.sensitivity: point for point in self.operating_points}[sensitivity]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a set of weights means."""

    name: str
    version: str
    #: SHA-256 of the weights file, lower-case hex.
    sha256: str
    network: NetworkShape
    #: Names of the abnormality outputs in their order, auxiliary ones included.
    outputs: tuple[str, ...]
    #: The output that tells any abnormality from "no finding", and how its probability is made.
    abnormal_output: str
    abnormal_formula: str
    abnormal_calibration: Calibration
    #: Reported abnormalities: a subset of `outputs`.
    labels: tuple[LabelCard, ...]
    #: Largest squared Mahalanobis distance of an image's features that is still triaged.
    feature_distance_limit: float
    #: The sensitivity that is meant where nobody chose another of the operating points.
    sensitivity: float
    #: What calibration, operating points and areas were measured on, and which labels are not for triage, in words.
    operating_rule: str
    #: Data sets with their terms, training settings, measured figures: for people and for the model card page.
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    figures: Mapping[str, Any]
    #: "source/patient" keys per split: train, validation, test.
    patients: Mapping[str, tuple[str, ...]]
    licence: str

    def require(self, sensitivity: float | None) -> float:
        """A sensitivity that every label has an operating point for; None = the card's own.

        Raises:
            ConfigurationError: there is none for it.
        """
        offered = sorted({point.sensitivity for label in self.labels for point in label.operating_points})
        if sensitivity is None:
            return self.sensitivity
        if sensitivity not in offered:
            raise ConfigurationError(
                f"model.sensitivity = {sensitivity:g}: {self.name} {self.version} has operating points for "
                f"{', '.join(f'{one:g}' for one in offered)}; use one of these, or leave it out for "
                f"{self.sensitivity:g}"
            )
        return sensitivity

    @property
    def not_for_triage(self) -> frozenset[str]:
        """Labels that move nothing where the site does not say otherwise."""
        return frozenset(label.name for label in self.labels if not label.for_triage)

    @property
    def identity(self) -> BundleIdentity:
        """What results cite."""
        return BundleIdentity(name=self.name, version=self.version, sha256=self.sha256)


def read_card(bundle: Path | None) -> Card:
    """Read a bundle's card; None = the bundled one.

    Raises:
        BundleError: there is no card, it is not one that this version reads, or it contradicts the vocabulary.
    """
    path = (bundle or BUNDLED) / CARD_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}): set [model] bundle to a folder that training made"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: copy the bundle anew") from error
    try:
        return _card(content)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is not a card that this version reads: {error!r}") from error


def _card(content: dict[str, Any]) -> Card:
    if content.pop("format") != CARD_FORMAT:
        raise ValueError(f"its format is not {CARD_FORMAT}")
    for fixed, own in (("locations", list(LOCATIONS)), ("structures", [structure.name for structure in STRUCTURES])):
        if content.pop(fixed) != own:
            raise ValueError(f"its {fixed} are not {own}")
    network = content.pop("network")
    labels = tuple(_label(row) for row in content.pop("labels"))
    card = Card(
        network=NetworkShape(**network | {"decoder_channels": tuple(network["decoder_channels"])}),
        labels=labels,
        abnormal_calibration=Calibration(**content.pop("abnormal_calibration")),
        outputs=tuple(content.pop("outputs")),
        patients={split: tuple(keys) for split, keys in content.pop("patients").items()},
        **content,
    )
    if any(card.sensitivity not in {point.sensitivity for point in row.operating_points} for row in labels):
        raise ValueError(f"a label has no operating point of its sensitivity {card.sensitivity}")
    unknown = [row.name for row in labels if row.name not in ABNORMALITY_BY_NAME or row.name not in card.outputs]
    if unknown or card.abnormal_output not in card.outputs or len(card.outputs) != card.network.abnormalities:
        raise ValueError(f"its labels and outputs do not fit together: {unknown}")
    return card


def _label(row: dict[str, Any]) -> LabelCard:
    return LabelCard(
        name=row["name"],
        calibration=Calibration(**row["calibration"]),
        operating_points=tuple(OperatingPoint(**point) for point in row["operating_points"]),
        auc=None if row["auc"] is None else tuple(row["auc"]),
        for_triage=row["for_triage"],
        # Cards that were written before maps were compared with boxes in this way say nothing of it.
        whereabouts=Whereabouts(**row.get("whereabouts", {})),
    )


def write_card(card: Card, bundle: Path) -> None:
    """Write a card so that `read_card` gives it back."""
    content = asdict(card) | {
        "format": CARD_FORMAT,
        "locations": LOCATIONS,
        "structures": [structure.name for structure in STRUCTURES],
        "labels": [asdict(row) | {"code": asdict(ABNORMALITY_BY_NAME[row.name].code)} for row in card.labels],
    }
    (bundle / CARD_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def verify(bundle: Path | None) -> Card:
    """Read the card and check the weights file against its SHA-256; None = the bundled one.

    Raises:
        BundleError: as `read_card`, or the weights are missing or not those of the card.
    """
    card = read_card(bundle)
    path = (bundle or BUNDLED) / WEIGHTS_NAME
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): copy the bundle anew") from error
    if digest != card.sha256:
        raise BundleError(
            f"{path} is damaged: its SHA-256 is {digest}, the card says {card.sha256}; copy the bundle anew"
        )
    return card


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
