"""What a bundle's calibration, operating points and areas are made of: images of patients that no part of it has seen.

Either the validation patients; or, with the bundles of a cross-validation at hand, all training and validation
patients, each by the network of the fold that judges it: ten times as many images can tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr_triage.model.network import MultiTaskNetwork
from cxr_triage.model.predictor import load_network
from cxr_triage.training.data import DataError
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.look import Look
from cxr_triage.training.precision import Precision
from cxr_triage.training.targets import Targets


@dataclass(frozen=True, kw_only=True, eq=False)
class Development:
    """Logits of images whose patients were not seen by the network that made them."""

    #: (N, outputs), in the order of `targets.outputs`.
    logits: NDArray[np.float64]
    targets: Targets
    #: "source/patient" of each image.
    patients: list[str]
    #: Whose images these are, in words.
    rule: str

    def only(self, rows: NDArray[np.int64]) -> "Development":
        """These images."""
        patients = [self.patients[row] for row in rows]
        return Development(logits=self.logits[rows], targets=self.targets.only(rows), patients=patients, rule=self.rule)


def whole_look(network: MultiTaskNetwork, part: TrainingSet) -> Look:
    """A network at whole frames, in the format that the service computes in."""
    return Look.at_whole(network, part.images, Precision("cpu", None), torch.device("cpu"))


@dataclass(frozen=True, kw_only=True, eq=False)
class FirstLook:
    """What one pass over whole frames tells."""

    #: As the service asks for findings: the closer look where the network takes one.
    closest: Look
    #: As in `Outputs`, of the whole frames.
    statistics: Tensor
    read: Tensor


def first_look(network: MultiTaskNetwork, part: TrainingSet) -> FirstLook:
    """Look at whole frames, once for all that is asked of them."""
    look = whole_look(network, part)
    boxes, statistics, read = look.boxes.copy(), [], []
    for rows, outputs in look.outputs(look.all):
        if network.shape.closer_look:
            boxes[rows] = look.boxes_in(outputs)
        statistics.append(outputs.statistics)
        read.append(outputs.read)
    return FirstLook(closest=replace(look, boxes=boxes), statistics=torch.cat(statistics), read=torch.cat(read))


def held_out(look: Look, validation: TrainingSet) -> Development:
    """What a network says of the validation patients."""
    return Development(
        logits=look.abnormality(look.all).double().numpy(),
        targets=validation.targets,
        patients=[sample.patient for sample in validation.samples],
        rule="validation patients",
    )


def out_of_fold(bundles: Sequence[Path], *parts: TrainingSet) -> Development:
    """What the bundles of a cross-validation say, each of the patients that it was to judge.

    Args:
        bundles: one per fold.
        parts: training and validation.

    Raises:
        BundleError: one of them cannot be used.
        DataError: an image is judged by none of them or by two, or one of them lacks an output or wants another input.
    """
    patients = [sample.patient for part in parts for sample in part.samples]
    names = parts[0].targets.outputs
    judged = np.zeros(len(patients), dtype=np.int64)
    logits = np.empty((len(patients), len(names)))
    for bundle in bundles:
        card, network, _ = load_network(bundle)
        lacking = [name for name in names if name not in card.outputs]
        if lacking:
            raise DataError(f"{bundle} is no fold of this training: it lacks the outputs {', '.join(lacking)}")
        columns = [card.outputs.index(name) for name in names]
        own = frozenset(card.patients["test"])
        judged += [patient in own for patient in patients]
        start = 0
        for part in parts:
            rows = np.array([row for row, sample in enumerate(part.samples) if sample.patient in own], dtype=np.int64)
            if len(rows):
                look = first_look(network, part.only(rows)).closest
                logits[start + rows] = look.abnormality(look.all).double().numpy()[:, columns]
            start += len(part.samples)
    if (judged != 1).any():
        raise DataError(
            f"the folds judge {int((judged == 0).sum())} images not at all and {int((judged > 1).sum())} more than "
            "once: give every bundle of one cross-validation on the same data"
        )
    return Development(
        logits=logits,
        targets=Targets.together([part.targets for part in parts]),
        patients=patients,
        rule=f"training and validation patients, each scored by that of {len(bundles)} networks that did not see them",
    )
