"""The abnormality head in closed form: ridge regression on what the trained encoder sees.

With a thousand labelled radiographs the head's thousands of weights are better solved for than trained step by step
(docs/decisions/0018-heads-in-closed-form.md). Labels and a teacher's logits are fitted separately, each scaled to mean
0 and deviation 1, so that a rare label weighs as much as a common one; the head is their sum.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import Ridge

from cxr_triage.model.network import MultiTaskNetwork
from cxr_triage.training.look import Look
from cxr_triage.training.targets import Targets

#: Penalty per feature of standardised features: for a teacher's logits, and for labels, which are noisier.
TEACHER_PENALTY: Final = 0.3
LABEL_PENALTY: Final = 1.0
#: Features that vary less than this are not blown up.
LEAST_DEVIATION: Final = 1e-3
#: A teacher's probabilities are not believed beyond this.
LEAST_PROBABILITY: Final = 1e-4

#: Weights (A, K) and biases (A,).
Head = tuple[NDArray[np.float64], NDArray[np.float64]]


def fit(features_NK: NDArray[np.float64], targets: Targets) -> Head:
    """Solve for the head.

    An output whose targets are all unknown or all the same gets weights of 0.

    Args:
        features_NK: what the heads read of each image.
        targets: of the same images; NaN = unknown.
    """
    mean = features_NK.mean(axis=0)
    deviation = np.maximum(features_NK.std(axis=0), LEAST_DEVIATION)
    standard = (features_NK - mean) / deviation
    teacher = logit(targets.teacher.astype(np.float64).clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
    weights = _solve(standard, targets.abnormality.astype(np.float64), LABEL_PENALTY)
    weights += _solve(standard, teacher, TEACHER_PENALTY)
    weights /= deviation
    return weights, -weights @ mean


def _solve(standard_NK: NDArray[np.float64], targets_NA: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """Weights (A, K) for each column of targets on the rows where it is known; columns known together go together."""
    weights = np.zeros((targets_NA.shape[1], standard_NK.shape[1]))
    known = ~np.isnan(targets_NA)
    for pattern in np.unique(known, axis=1).T:
        columns = np.flatnonzero((known == pattern[:, None]).all(axis=0))
        chosen = targets_NA[pattern][:, columns]
        varying = chosen.std(axis=0) > 0 if len(chosen) else np.zeros(len(columns), dtype=np.bool_)
        if not varying.any():
            continue
        chosen = chosen[:, varying]
        scaled = (chosen - chosen.mean(axis=0)) / chosen.std(axis=0)
        ridge = Ridge(alpha=penalty * standard_NK.shape[1]).fit(standard_NK[pattern], scaled)
        weights[columns[varying]] = ridge.coef_
    return weights


def refit(network: MultiTaskNetwork, looks: Sequence[Look], targets: Targets) -> None:
    """Solve for the network's head on all that it looks at, and give it that head."""
    read = torch.cat([look.read(look.all) for look in looks])
    weights, biases = fit(read.double().numpy(), targets)
    mean, deviation = (tensor.double().numpy() for tensor in network.standardisation.buffers())
    with torch.no_grad():
        network.abnormality.weight.copy_(torch.from_numpy(weights * deviation))
        network.abnormality.bias.copy_(torch.from_numpy(biases + weights @ mean))
