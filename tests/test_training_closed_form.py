"""The abnormality head in closed form: what it learns, and that it is the network's afterwards."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cxr_triage.model.bundle import NetworkShape
from cxr_triage.model.network import MultiTaskNetwork
from cxr_triage.training.closed_form import fit, refit
from cxr_triage.training.look import Look
from cxr_triage.training.metrics import auc
from cxr_triage.training.precision import Precision
from cxr_triage.training.targets import Targets

RANDOM = np.random.default_rng(7)


def targets(abnormality: NDArray[np.float64], teacher: NDArray[np.float64] | None = None) -> Targets:
    """Of two outputs."""
    unknown = np.full(abnormality.shape, np.nan, dtype=np.float32)
    ones = np.ones(abnormality.shape, dtype=np.float32)
    return Targets(
        outputs=("Mass", "Nodule"),
        abnormality=abnormality.astype(np.float32),
        teacher=unknown if teacher is None else teacher.astype(np.float32),
        sensitivity=ones,
        specificity=ones,
        location=np.full((len(abnormality), 9), np.nan, dtype=np.float32),
    )


def scene(count: int = 300) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features, two of which tell the two labels, on scales far from 1; and the labels."""
    features = RANDOM.normal(size=(count, 20))
    labels = (features[:, :2] + RANDOM.normal(size=(count, 2)) > 0).astype(float)
    return features * np.geomspace(0.01, 100, 20) + 5, labels


def test_labels_are_learned_whatever_the_scale_of_the_features() -> None:
    """New images are ordered well."""
    features, labels = scene()
    weights, biases = fit(features[:200], targets(labels[:200]))
    scores = features[200:] @ weights.T + biases
    for column in range(2):
        assert (auc(labels[200:, column], scores[:, column]) or 0) > 0.75


def test_a_rare_label_scores_on_the_scale_of_a_common_one() -> None:
    """Both are fitted with a mean of 0 and a deviation of 1."""
    features, labels = scene(2000)
    labels[:, 1] *= RANDOM.uniform(size=2000) < 0.1
    weights, biases = fit(features, targets(labels))
    scores = features @ weights.T + biases
    assert np.abs(scores.mean(axis=0)).max() < 1e-6
    assert 0.2 < scores[:, 1].std() / scores[:, 0].std() < 1


def test_a_teacher_adds_what_labels_cannot_say() -> None:
    """Where labels are noise, its probabilities still order the images."""
    features, labels = scene()
    truth = (features[:, :2] - 5) / np.geomspace(0.01, 100, 20)[:2]
    noise = (RANDOM.uniform(size=labels.shape) < 0.5).astype(float)
    teacher = 1 / (1 + np.exp(-truth))
    weights, biases = fit(features[:200], targets(noise[:200], teacher[:200]))
    scores = features[200:] @ weights.T + biases
    assert (auc(labels[200:, 0], scores[:, 0]) or 0) > 0.75


def test_unknown_targets_are_left_out_and_an_output_without_any_gets_no_weight() -> None:
    """Rows of another source do not count as negatives."""
    features, labels = scene()
    known = labels.copy()
    known[100:] = np.nan
    known[:, 1] = np.nan
    weights, biases = fit(features, targets(known))
    alone, bias = fit(features[:100], targets(known[:100]))
    # Features are standardised over all rows, so that the two heads differ a little.
    assert np.corrcoef(weights[0], alone[0])[0, 1] > 0.95
    assert not weights[1].any()
    assert biases[1] == bias[1] == 0


@pytest.fixture
def network() -> MultiTaskNetwork:
    """Small, with random weights."""
    torch.manual_seed(0)
    shape = NetworkShape(
        encoder="efficientnet_lite0", pooling="pyramid", input_size=64, abnormalities=2, locations=9, structures=3
    )
    return MultiTaskNetwork(shape).eval()


def test_the_head_becomes_that_of_the_network(network: MultiTaskNetwork) -> None:
    """What the network then says of an image is the head on its features."""
    images = RANDOM.integers(0, 255, (20, 64, 64), dtype=np.uint8)
    look = Look.at_whole(network, images, Precision("cpu", None), torch.device("cpu"))
    network.standardisation.fit(look.read(np.arange(10)))
    known = targets((RANDOM.uniform(size=(20, 2)) < 0.5).astype(float))
    refit(network, [look], known)
    features = look.read(np.arange(20)).double().numpy()
    weights, biases = fit(features, known)
    assert np.allclose(look.abnormality(np.arange(20)).numpy(), features @ weights.T + biases, atol=1e-4)
