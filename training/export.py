"""A trained network -> a bundle: calibrated, with thresholds, the gate's limit, and the patients of each split."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.special import expit

from cxr_triage.model.bundle import WEIGHTS_NAME, Calibration, Card, LabelCard, sha256_of, write_card
from cxr_triage.model.features import FeatureSpace
from cxr_triage.model.network import MultiTaskNetwork
from cxr_triage.training.calibration import calibrate, thresholds_for_normals
from cxr_triage.training.data import NIH_LABELS, DataError
from cxr_triage.training.division import Division
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.precision import Precision
from cxr_triage.training.recipes import Recipe
from cxr_triage.training.sources import source_of
from cxr_triage.training.targets import ABNORMAL_OUTPUT
from cxr_triage.training.validation import Look
from cxr_triage.training.views import AT_ONCE, closer_boxes, matrices_of, seen, whole_boxes

#: Share of normal validation images that the operating thresholds leave without any finding.
NORMALS_LEFT_ALONE: Final = 0.85
#: The gate's limit is this quantile of the validation images' distances, times the margin: other hospitals' images
#: lie a little farther out than those of the same hospitals.
DISTANCE_QUANTILE: Final = 0.99
DISTANCE_MARGIN: Final = 1.25

LICENCE: Final = "see LICENSE-WEIGHTS.md"
ABNORMAL_FORMULA: Final = (
    f"calibrated sigmoid of the network's own output {ABNORMAL_OUTPUT!r}: "
    "any of the 14 labels against No Finding, trained on the NIH images"
)
THRESHOLD_RULE: Final = (
    f"the same specificity for every label, the lowest at which {NORMALS_LEFT_ALONE:.0%} of the No Finding images "
    "among the NIH validation images have no finding; it came to {specificity:.1%}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleName:
    """How people call the bundle."""

    name: str
    version: str


def export(
    network: MultiTaskNetwork,
    *,
    parts: Mapping[str, TrainingSet],
    division: Division,
    recipe: Recipe,
    name: BundleName,
    folder: Path,
) -> Card:
    """Calibrate on the validation patients and write weights and card.

    Args:
        network: trained, with the averaged weights.
        parts: prepared "train" and "validation" images; both must hold radiographs with the reported labels.
        division: the patients of each split, the test's included: they go on the card.
        recipe: what the network was trained by.
        name: how the bundle is called.
        folder: where to write; made when it does not exist.

    Raises:
        DataError: no radiograph of a part carries the reported labels.
    """
    for split, part in parts.items():
        if not len(_reported(part)):
            raise DataError(f"no radiograph of the {split} part carries the reported labels: nothing can be calibrated")
    folder.mkdir(parents=True, exist_ok=True)
    network = _as_stored(network.cpu().eval())
    training, validation = (_of_adults(parts[split]) for split in ("train", "validation"))
    space = FeatureSpace.fit(_features(network, training))
    held_out = _features(network, validation)
    logits = _logits(network, validation)
    tensors = {
        key: value.half().contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    weights = folder / WEIGHTS_NAME
    save_file(tensors | space.tensors(), weights)
    # The library writes for the owner alone; the service runs as another user than who installs it.
    weights.chmod(0o644)
    calibrations = _calibrations(logits, training, validation)
    specificity, thresholds = _thresholds(logits, calibrations, validation)
    limit = float(torch.quantile(space.distances(held_out), DISTANCE_QUANTILE)) * DISTANCE_MARGIN
    card = Card(
        name=name.name,
        version=name.version,
        sha256=sha256_of(weights),
        network=network.shape,
        outputs=parts["train"].targets.outputs,
        abnormal_output=ABNORMAL_OUTPUT,
        abnormal_formula=ABNORMAL_FORMULA,
        abnormal_calibration=calibrations[ABNORMAL_OUTPUT],
        labels=tuple(
            LabelCard(name=label, threshold=thresholds[label], calibration=calibrations[label]) for label in NIH_LABELS
        ),
        feature_distance_limit=limit,
        threshold_rule=THRESHOLD_RULE.format(specificity=specificity),
        data=division.counts(),
        training={
            "recipe": recipe.name,
            "epochs": recipe.epochs,
            "encoder": recipe.encoder,
            "seed": recipe.seed,
            "noise": recipe.noise,
            "division": division.rule,
        },
        figures={},
        patients=division.patients(),
        licence=LICENCE,
    )
    write_card(card, folder)
    return card


def add_figures(card: Card, figures: Mapping[str, Any], folder: Path) -> Card:
    """Put measured figures on a bundle's card."""
    finished = replace(card, figures=figures)
    write_card(finished, folder)
    return finished


def _as_stored(network: MultiTaskNetwork) -> MultiTaskNetwork:
    """The network as it will be loaded: stored as float16, computed as float32; calibration sees the same weights."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return network


def _of_adults(part: TrainingSet) -> TrainingSet:
    """The images that the product is made for: the gate's feature space is theirs."""
    return part.only(part.rows_of(lambda sample: source_of(sample.source).adult))


def _reported(part: TrainingSet) -> NDArray[np.int64]:
    """Rows that say of the reported labels whether they are there, No Finding included."""
    columns = [part.targets.outputs.index(name) for name in (*NIH_LABELS, ABNORMAL_OUTPUT)]
    return np.flatnonzero(~np.isnan(part.targets.abnormality[:, columns]).any(axis=1))


@torch.inference_mode()
def _features(network: MultiTaskNetwork, part: TrainingSet) -> torch.Tensor:
    """Pooled features of the whole frames, (N, K)."""
    size, whole = network.shape.input_size, matrices_of(whole_boxes(1))
    features = []
    for images in np.array_split(part.images, max(len(part.images) // AT_ONCE, 1)):
        matrices = whole.expand(len(images), 2, 3)
        views = seen(images, matrices, size, np.zeros(len(images), dtype=np.bool_))
        features.append(network(views, decoded=1).pooled)
    return torch.cat(features)


def _logits(network: MultiTaskNetwork, part: TrainingSet) -> torch.Tensor:
    """Abnormality logits (N, outputs) as the service gets them: from the closer look where the network takes one."""
    cpu, size = torch.device("cpu"), network.shape.input_size
    precision = Precision("cpu", None)
    looks = closer_boxes(network, part.images, size, precision, cpu) if network.shape.closer_look else None
    boxes = whole_boxes(len(part.samples)) if looks is None else looks
    look = Look(network=network, data=part, boxes=boxes, size=size, precision=precision, device=cpu)
    return look.outputs(np.arange(len(part.samples)))[0]


def _calibrations(logits_NK: torch.Tensor, training: TrainingSet, validation: TrainingSet) -> dict[str, Calibration]:
    """Calibration per reported output, on the validation images that carry the reported labels."""
    rows, names = _reported(validation), (*NIH_LABELS, ABNORMAL_OUTPUT)
    columns = [validation.targets.outputs.index(name) for name in names]
    truth = validation.targets.abnormality[rows][:, columns].astype(np.float64)
    prevalence = training.targets.abnormality[_reported(training)][:, columns].mean(axis=0)
    fitted = calibrate(logits_NK[rows][:, columns].double().numpy(), truth, prevalence.tolist())
    return dict(zip(names, fitted, strict=True))


def _thresholds(
    logits_NK: torch.Tensor, calibrations: Mapping[str, Calibration], validation: TrainingSet
) -> tuple[float, dict[str, float]]:
    """Operating threshold per label, on the same images, and the specificity that all of them have."""
    rows, outputs = _reported(validation), validation.targets.outputs
    columns = [outputs.index(name) for name in NIH_LABELS]
    scale = np.array([calibrations[name].scale for name in NIH_LABELS])
    offset = np.array([calibrations[name].offset for name in NIH_LABELS])
    probabilities = expit(scale * logits_NK[rows][:, columns].double().numpy() + offset)
    truth = validation.targets.abnormality[rows].astype(np.float64)
    normal = truth[:, outputs.index(ABNORMAL_OUTPUT)] == 0
    specificity, thresholds = thresholds_for_normals(probabilities, truth[:, columns], normal, NORMALS_LEFT_ALONE)
    return specificity, dict(zip(NIH_LABELS, thresholds, strict=True))
