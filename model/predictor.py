"""Weights bundle + Radiograph -> Prediction. The only place that runs the network for a result."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from cxr_triage.model.bundle import BUNDLED, WEIGHTS_NAME, Calibration, Card, verify
from cxr_triage.model.devices import choose_device
from cxr_triage.model.errors import BundleError
from cxr_triage.model.features import GATE, FeatureSpace, MinorTest
from cxr_triage.model.findings import LOCATIONS, Finding
from cxr_triage.model.measurements import heart_contrast, largest_parts, measure
from cxr_triage.model.misplacement import MISPLACEMENTS
from cxr_triage.model.network import MultiTaskNetwork, Outputs
from cxr_triage.model.pose import Pose
from cxr_triage.model.prediction import BundleIdentity, Prediction, Refusal
from cxr_triage.model.preparation import Frame, closer_frame, frame_of, prepare, recut, restore
from cxr_triage.model.radiograph import Radiograph
from cxr_triage.model.remarks import remarks_on
from cxr_triage.model.suitability import (
    CLOSER,
    MINOR_BY_IMAGE,
    SUSPICIOUS,
    check_prediction,
    implausible_outlines,
)
from cxr_triage.model.whereabouts import located


class Gate(NamedTuple):
    """What a bundle's gate asks of the features of a whole frame."""

    space: FeatureSpace
    minor: MinorTest | None


def load_network(bundle: Path | None) -> tuple[Card, MultiTaskNetwork, Gate]:
    """Verify a bundle and rebuild what it holds; None = the bundled one.

    Raises:
        BundleError: the bundle is missing, damaged or of another version.
    """
    card = verify(bundle)
    path = (bundle or BUNDLED) / WEIGHTS_NAME
    network = MultiTaskNetwork(card.network)
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        gate = Gate(FeatureSpace.from_tensors(tensors), MinorTest.from_tensors(tensors))
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(GATE)}
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise BundleError(f"{path} does not fit its card: {error}") from error
    # Counters that only training reads are not exported.
    lacking = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lacking or unexpected:
        raise BundleError(f"{path} does not fit its card: missing {lacking}, unexpected {unexpected}")
    return card, network.eval(), gate


class Predictor:
    """One loaded bundle on one device; not for use by several threads at once."""

    def __init__(
        self, card: Card, network: MultiTaskNetwork, gate: Gate, device: torch.device, sensitivity: float
    ) -> None:
        self.card = card
        self._whereabouts = {label.name: label.whereabouts for label in card.labels}
        self._thresholds = {label.name: label.at(sensitivity).threshold for label in card.labels}
        self._network = network.to(device).eval()
        self._gate = gate
        self._device = device

    @classmethod
    def load(cls, bundle: Path | None = None, device: str = "auto", sensitivity: float | None = None) -> "Predictor":
        """Verify and load a bundle; None = the bundled one.

        Args:
            bundle: folder with weights and card.
            device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
            sensitivity: that of the operating points; None = the card's.

        Raises:
            BundleError: the bundle is missing, damaged or of another version.
            ConfigurationError: the device does not exist, or the card has no operating point of this sensitivity.
        """
        card, network, gate = load_network(bundle)
        return cls(card, network, gate, choose_device(device), card.require(sensitivity))

    @property
    def identity(self) -> BundleIdentity:
        """What results cite."""
        return self.card.identity

    @torch.inference_mode()
    def predict(self, radiograph: Radiograph) -> Prediction:
        """Run the network and say what it saw; an unsuitable image carries its refusal."""
        pose = Pose.of(radiograph)
        pixels = pose.shown(radiograph.pixels_HW)
        frame = frame_of(pixels)
        outputs, logits = self._look(pixels, frame)
        parts = largest_parts(logits)
        # The gate judges the whole frame: a closer look would hide what is around a chest that is none.
        distance = float(self._gate.space.distances(outputs.statistics.cpu())[0])
        childlike = self._childlike(radiograph, outputs)
        if self.card.network.closer_look and (closer := closer_frame(frame, parts)) != frame:
            first, frame = recut(torch.from_numpy(logits), frame, closer), closer
            outputs, logits = self._look(pixels, frame)
            # Two looks at the same outlines err less than one.
            parts = largest_parts(((first + torch.from_numpy(logits)) / 2).numpy())
        masks: NDArray[np.bool_] = (restore(torch.from_numpy(parts), frame) > 0).numpy()
        stored = pose.stored(masks)
        implausible = implausible_outlines(masks)
        refusal = self._refusal(pixels, masks, distance, implausible)
        if refusal or distance > SUSPICIOUS * self.card.feature_distance_limit:
            refusal = self._misplaced(pixels, np.inf if refusal else CLOSER * distance) or refusal
        said = Prediction(
            bundle=self.identity,
            findings=self._findings(outputs.abnormality[0].cpu()),
            abnormal_probability=self._abnormal(outputs.abnormality[0].cpu()),
            locations=dict(zip(LOCATIONS, outputs.location[0].sigmoid().tolist(), strict=True)),
            measurements=() if implausible else measure(stored, radiograph),
            masks_CHW=stored,
            saliency_LHW=pose.turned_back(self._saliency(outputs)),
            saliency_frame=pose.stored_frame(frame),
            feature_distance=distance,
            refusal=refusal or childlike,
            remarks=remarks_on(masks, implausible),
        )
        return said if implausible else located(said, self._whereabouts)

    def _look(self, pixels_HW: NDArray[np.float32], frame: Frame) -> tuple[Outputs, NDArray[np.float32]]:
        """The network's outputs for a frame, and its mask logits."""
        image = prepare(pixels_HW, frame, self.card.network.input_size)
        outputs: Outputs = self._network(image[None].to(self._device))
        logits: NDArray[np.float32] = outputs.mask[0].float().cpu().numpy()
        return outputs, logits

    def _childlike(self, radiograph: Radiograph, outputs: Outputs) -> Refusal | None:
        """An age that is known is believed: the header was asked before."""
        if radiograph.age_years is not None or self._gate.minor is None:
            return None
        return MINOR_BY_IMAGE if self._gate.minor.is_minor(outputs.read[0].float().cpu()) else None

    def _refusal(
        self, pixels_HW: NDArray[np.float32], masks_CHW: NDArray[np.bool_], distance: float, implausible: str | None
    ) -> Refusal | None:
        return check_prediction(
            masks_CHW,
            implausible=implausible,
            feature_distance=distance,
            distance_limit=self.card.feature_distance_limit,
            contrast=heart_contrast(pixels_HW, masks_CHW),
        )

    def _misplaced(self, pixels_HW: NDArray[np.float32], within: float) -> Refusal | None:
        """What is wrong with an image, if turned or inverted it would be a chest radiograph.

        Where several ways would do, the one that is most like the training images is believed.

        Args:
            pixels_HW: float, as the network sees them.
            within: what the distance then has to be below.
        """
        image = prepare(pixels_HW, frame_of(pixels_HW), self.card.network.input_size)
        # One after the other: four at once take four times the memory, which the process would keep.
        distances = [self._distance_as_chest(misplacement.undo(image)) for misplacement in MISPLACEMENTS]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        return MISPLACEMENTS[nearest].refusal if distances[nearest] < within else None

    def _distance_as_chest(self, image_1SS: Tensor) -> float:
        """How far an image lies from those of the training; infinitely far if the gate would refuse it."""
        outputs: Outputs = self._network(image_1SS[None].to(self._device))
        distance = float(self._gate.space.distances(outputs.statistics.cpu())[0])
        pixels = functional.avg_pool2d(image_1SS[None], 2)[0, 0].numpy()
        mask = largest_parts(outputs.mask[0].float().cpu().numpy()) > 0
        passes = self._refusal(pixels, mask, distance, implausible_outlines(mask)) is None
        return distance if passes else np.inf

    def _findings(self, logits_K: Tensor) -> tuple[Finding, ...]:
        return tuple(
            Finding(
                label=label.name,
                probability=_calibrated(logits_K[self.card.outputs.index(label.name)], label.calibration),
                threshold=self._thresholds[label.name],
            )
            for label in self.card.labels
        )

    def _abnormal(self, logits_K: Tensor) -> float:
        logit = logits_K[self.card.outputs.index(self.card.abnormal_output)]
        return _calibrated(logit, self.card.abnormal_calibration)

    def _saliency(self, outputs: Outputs) -> NDArray[np.uint8]:
        rows = [self.card.outputs.index(label.name) for label in self.card.labels]
        maps = self._network.activation_maps(outputs)[0, rows].clamp(min=0).float().cpu().numpy()
        peaks = maps.max(axis=(1, 2), keepdims=True)
        saliency: NDArray[np.uint8] = np.round(255 * maps / np.maximum(peaks, 1e-6)).astype(np.uint8)
        return saliency


def _calibrated(logit: Tensor, calibration: Calibration) -> float:
    return float(torch.sigmoid(calibration.scale * logit.double() + calibration.offset))
