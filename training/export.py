"""A trained network -> a bundle: calibrated, with operating points, the gate's limit and the patients of each split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.special import expit

from cxr_triage.model.bundle import WEIGHTS_NAME, Calibration, Card, LabelCard, sha256_of, write_card
from cxr_triage.model.features import FeatureSpace, MinorTest
from cxr_triage.model.network import MultiTaskNetwork
from cxr_triage.training.calibration import calibrate, operating_points
from cxr_triage.training.closed_form import refit
from cxr_triage.training.data import NIH_LABELS, DataError
from cxr_triage.training.development import Development, FirstLook, first_look, held_out, out_of_fold, whole_look
from cxr_triage.training.division import Division
from cxr_triage.training.evaluation.intervals import interval, resample, resampled_auc
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.metrics import auc
from cxr_triage.training.minors import fit_minor_test, only
from cxr_triage.training.recipes import Recipe
from cxr_triage.training.targets import ABNORMAL_OUTPUT, REPORTED, Targets
from cxr_triage.training.whereabouts import vouching

#: The operating point that is meant where a site chooses no other.
SENSITIVITY: Final = 0.5
#: A label whose area's lower bound is below this is not for triage: it might be little better than chance.
LEAST_AREA: Final = 0.6
#: The gate's limit is this quantile of the validation images' distances, times the margin: other hospitals' images
#: lie a little farther out than those of the same hospitals.
DISTANCE_QUANTILE: Final = 0.99
DISTANCE_MARGIN: Final = 1.5

LICENCE: Final = "see LICENSE-WEIGHTS.md"
ABNORMAL_FORMULA: Final = (
    f"calibrated sigmoid of the network's own output {ABNORMAL_OUTPUT!r}: "
    "any of the 14 labels against No Finding, trained on the NIH images"
)
OPERATING_RULE: Final = (
    "calibrated, and thresholds chosen for the stated sensitivity, on the {rule}, of whom every reported label is "
    "known; the area under the ROC curve is of those of them with a teacher's probabilities, where there are any, for "
    "how the other images were selected tells their labels; a label whose lower bound (95 %, by patient) is below "
    f"{LEAST_AREA} is not for triage"
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
    folds: Sequence[Path] = (),
) -> Card:
    """Solve for the head where the recipe says so, calibrate, and write weights and card.

    Args:
        network: trained, with the averaged weights.
        parts: prepared "train" and "validation" images; both must hold radiographs with the reported labels.
        division: the patients of each split, the test's included: they go on the card.
        recipe: what the network was trained by.
        name: how the bundle is called.
        folder: where to write; made when it does not exist.
        folds: bundles of a cross-validation, which then judge the training and validation patients; else the validation
            patients are all that judge.

    Raises:
        DataError: no radiograph of a part carries the reported labels, or the folds are not those of these patients.
    """
    for split, part in parts.items():
        if not len(_reported(part.targets)):
            raise DataError(f"no radiograph of the {split} part carries the reported labels: nothing can be calibrated")
    folder.mkdir(parents=True, exist_ok=True)
    network = _as_stored(network.cpu().eval())
    adults = {split: only(part, minors=False) for split, part in parts.items()}
    looks = {split: first_look(network, part) for split, part in adults.items()}
    if recipe.closed_form:
        # The validation patients are needed for judging where no folds do.
        _solve_head(network, looks, adults, ("train", "validation") if folds else ("train",))
    development = (
        out_of_fold(folds, *adults.values()) if folds else held_out(looks["validation"].closest, adults["validation"])
    )
    space, limit = _space(looks)
    minor = _minor_test(network, looks, adults, parts)
    weights = _save(network, space.tensors() | (minor.tensors() if minor else {}), folder)
    judged = development.only(_reported(development.targets))
    calibrations = _calibrations(judged, adults["train"])
    card = Card(
        name=name.name,
        version=name.version,
        sha256=sha256_of(weights),
        network=network.shape,
        outputs=parts["train"].targets.outputs,
        abnormal_output=ABNORMAL_OUTPUT,
        abnormal_formula=ABNORMAL_FORMULA,
        abnormal_calibration=calibrations[ABNORMAL_OUTPUT],
        labels=tuple(_label(label, calibrations[label], judged) for label in NIH_LABELS),
        feature_distance_limit=limit,
        sensitivity=SENSITIVITY,
        operating_rule=OPERATING_RULE.format(rule=development.rule),
        data=division.counts(),
        training={
            "recipe": recipe.name,
            "epochs": recipe.epochs,
            "steps of outlines alone": 0 if recipe.outlining is None else recipe.outlining.steps,
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
    """Put measured figures on a bundle's card, and what they let its maps tell."""
    finished = replace(vouching(card, figures), figures=figures)
    write_card(finished, folder)
    return finished


def _as_stored(network: MultiTaskNetwork) -> MultiTaskNetwork:
    """The network as it will be loaded: stored as float16, computed as float32; calibration sees the same weights."""
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return network


def _reported(targets: Targets) -> NDArray[np.int64]:
    """Rows that say of the reported labels whether they are there, No Finding included."""
    return np.flatnonzero(~np.isnan(targets.reported()).any(axis=1))


def _solve_head(
    network: MultiTaskNetwork, looks: Mapping[str, FirstLook], adults: Mapping[str, TrainingSet], splits: Sequence[str]
) -> None:
    targets = Targets.together([adults[split].targets for split in splits])
    refit(network, [looks[split].closest for split in splits], targets)
    _as_stored(network)


def _space(looks: Mapping[str, FirstLook]) -> tuple[FeatureSpace, float]:
    """The space of the adult training images' whole frames, and how far from it an image may lie."""
    space = FeatureSpace.fit(looks["train"].statistics)
    distances = space.distances(looks["validation"].statistics)
    return space, float(torch.quantile(distances, DISTANCE_QUANTILE)) * DISTANCE_MARGIN


def _minor_test(
    network: MultiTaskNetwork,
    looks: Mapping[str, FirstLook],
    adults: Mapping[str, TrainingSet],
    parts: Mapping[str, TrainingSet],
) -> MinorTest | None:
    """Of adults, who have been looked at, and of minors, who are kept out of everything else."""
    read, samples = [], []
    for split, part in parts.items():
        minors = only(part, minors=True)
        look = whole_look(network, minors)
        read += [looks[split].read, *([look.read(look.all)] if minors.samples else [])]
        samples += [*adults[split].samples, *minors.samples]
    return fit_minor_test(torch.cat(read).double().numpy(), samples)


def _save(network: MultiTaskNetwork, gate: Mapping[str, torch.Tensor], folder: Path) -> Path:
    """Write the weights file."""
    tensors = {
        key: value.half().contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    weights = folder / WEIGHTS_NAME
    save_file(tensors | dict(gate), weights)
    # The library writes for the owner alone; the service runs as another user than who installs it.
    weights.chmod(0o644)
    return weights


def _calibrations(judged: Development, training: TrainingSet) -> dict[str, Calibration]:
    """Calibration per reported output."""
    columns = [judged.targets.outputs.index(name) for name in REPORTED]
    prevalence = training.targets.reported()[_reported(training.targets)].mean(axis=0)
    truth = judged.targets.reported().astype(np.float64)
    return dict(zip(REPORTED, calibrate(judged.logits[:, columns], truth, prevalence.tolist()), strict=True))


def _label(name: str, calibration: Calibration, judged: Development) -> LabelCard:
    """Operating points of one label, and whether it is good enough to move a study."""
    column = judged.targets.outputs.index(name)
    logits, truth = judged.logits[:, column], judged.targets.abnormality[:, column].astype(np.float64)
    area = _area(logits, truth, judged)
    return LabelCard(
        name=name,
        calibration=calibration,
        operating_points=operating_points(expit(calibration.scale * logits + calibration.offset), truth),
        auc=area,
        for_triage=area is not None and area[1] >= LEAST_AREA,
    )


def _area(
    logits_N: NDArray[np.float64], truth_N: NDArray[np.float64], judged: Development
) -> tuple[float, float, float] | None:
    """Area under the ROC curve with its interval: of the images with a teacher's probabilities where there are any."""
    taught = ~np.isnan(judged.targets.teacher).all(axis=1)
    rows = np.flatnonzero(taught) if taught.any() else np.arange(len(truth_N))
    area = auc(truth_N[rows], logits_N[rows])
    weights = resample([judged.patients[row] for row in rows.tolist()])
    bounds = interval(resampled_auc(truth_N[rows], logits_N[rows], weights))
    return None if area is None or bounds is None else (area, bounds[0], bounds[1])
