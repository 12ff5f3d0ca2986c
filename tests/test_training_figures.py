"""Losses, calibration and figures: against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve

from cxr_triage.training.calibration import (
    calibrate,
    calibration_bins,
    expected_calibration_error,
    operating_points,
)
from cxr_triage.training.losses import masked_bce, positive_weights, segmentation_loss, soft_targets
from cxr_triage.training.metrics import auc, dice

NAN = math.nan


def test_masked_targets_cost_nothing() -> None:
    """Only the known target counts: -log(0.5)."""
    loss = masked_bce(torch.tensor([[0.0, 50.0]]), torch.tensor([[1.0, NAN]]))
    assert float(loss) == pytest.approx(math.log(2))


def test_loss_without_any_known_target_is_zero() -> None:
    """And does not divide by zero."""
    assert float(masked_bce(torch.zeros(2, 3), torch.full((2, 3), NAN))) == 0.0


def test_rare_positives_weigh_more_and_the_mean_weight_stays_one() -> None:
    """One positive of four: w+ is three times w-."""
    positive, negative = positive_weights(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), largest=8)
    assert float(positive / negative) == pytest.approx(3)
    assert float(positive + 3 * negative) == pytest.approx(4)


def test_positive_weight_is_bounded() -> None:
    """A label with one positive in a thousand does not drown the others."""
    targets = torch.zeros(1000, 1)
    targets[0] = 1
    positive, negative = positive_weights(targets, largest=8)
    assert float(positive / negative) == pytest.approx(8)


def test_perfect_masks_cost_almost_nothing() -> None:
    """And the opposite costs a lot."""
    truth = torch.zeros(1, 3, 8, 8)
    truth[:, :, 2:6, 2:6] = 1
    right = segmentation_loss((truth - 0.5) * 100, truth)
    assert float(right) < 0.01
    assert float(segmentation_loss((0.5 - truth) * 100, truth)) > 10


def test_teacher_is_mixed_in_only_where_both_are_known() -> None:
    """No label, no target, whatever the teacher says."""
    mixed = soft_targets(torch.tensor([[1.0, 1.0, NAN]]), torch.tensor([[0.5, NAN, 0.5]]), share=0.5)
    assert mixed[0, :2].tolist() == [0.75, 1.0]
    assert mixed[0, 2].isnan()


def test_calibration_restores_the_prevalence_and_the_slope() -> None:
    """Logits that were made twice too steep and shifted come back."""
    random = np.random.default_rng(1)
    truth = logit(random.uniform(0.02, 0.98, (4000, 3)))
    labels = (random.uniform(size=truth.shape) < expit(truth)).astype(float)
    fitted = calibrate(2 * truth + 3, labels, [0.5, 0.5, 0.5])
    assert [row.scale for row in fitted] == pytest.approx([0.5] * 3, rel=0.11)
    assert [row.offset for row in fitted] == pytest.approx([-1.5] * 3, abs=0.25)


def test_operating_points_reach_their_sensitivity_at_the_highest_threshold() -> None:
    """Of ten positives seven reach 0.7; one more step up and six would."""
    random = np.random.default_rng(1)
    probabilities, labels = random.uniform(size=200), np.r_[np.ones(10), np.zeros(190)]
    for point in operating_points(probabilities, labels):
        reached = (probabilities[:10] >= point.threshold).sum()
        assert reached == round(point.sensitivity * 10)
        assert (probabilities[:10] >= np.nextafter(point.threshold, 1)).sum() == reached - 1
        assert point.specificity == (probabilities[10:] < point.threshold).mean()


def test_a_label_without_positives_is_never_found() -> None:
    """No threshold could be chosen."""
    points = operating_points(np.linspace(0, 0.9, 10), np.zeros(10))
    assert {(point.threshold, point.specificity) for point in points} == {(1.0, 1.0)}


def test_calibration_error_of_an_honest_and_of_a_boastful_network() -> None:
    """0.5 said of a coin, and 0.99 said of a coin."""
    coin = np.tile([0.0, 1.0], 500)
    assert expected_calibration_error(np.full(1000, 0.5), coin) == pytest.approx(0.0)
    assert expected_calibration_error(np.full(1000, 0.99), coin) == pytest.approx(0.49)


def test_calibration_bins_are_equally_filled_and_keep_ties_together() -> None:
    """As scikit-learn cuts them: the gaps of its curve, weighted, are the error."""
    random = np.random.default_rng(3)
    probabilities = np.round(random.uniform(size=400), 2)
    labels = (random.uniform(size=400) < probabilities**2).astype(float)
    frequency, mean = calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    filled = np.bincount(calibration_bins(probabilities))
    expected = float(np.abs(frequency - mean) @ filled / 400)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)
    assert filled.min() > 30


def test_auc_ignores_unknown_labels_and_needs_both_classes() -> None:
    """The middle row is unknown; without it the order is perfect."""
    assert auc([0, NAN, 1], [0.1, 0.9, 0.8]) == 1.0
    assert auc([1, 1], [0.1, 0.2]) is None


def test_dice() -> None:
    """Two of three pixels shared."""
    one, other = np.array([1, 1, 1, 0], dtype=bool), np.array([0, 1, 1, 1], dtype=bool)
    assert dice(one, other) == pytest.approx(2 / 3)
    assert dice(np.zeros(4, dtype=bool), np.zeros(4, dtype=bool)) == 1.0
