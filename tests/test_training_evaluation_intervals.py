"""Bootstrap intervals: against scikit-learn, and against how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cxr_triage.training.calibration import calibration_gaps
from cxr_triage.training.evaluation.intervals import (
    interval,
    interval_of_gaps,
    interval_of_share,
    macro,
    resample,
    resampled_auc,
    resampled_mean,
)

ALONE = [f"p{number}" for number in range(200)]


def test_resamples_draw_whole_patients() -> None:
    """Two images of one patient are always drawn together; each resample holds as many patients as there are."""
    weights = resample(["a", "b", "a", "c"], resamples=50)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(weights, axis=0)) > 5


def test_resamples_are_the_same_for_the_same_patients() -> None:
    """So that figures can be paired; another seed gives others."""
    assert np.array_equal(resample(ALONE), resample(ALONE))
    assert not np.array_equal(resample(ALONE), resample(ALONE, seed=1))


def test_no_images_no_interval() -> None:
    """An empty part of the images is not an error."""
    weights = resample([])
    assert weights.shape == (1000, 0)
    assert interval(resampled_auc(np.array([]), np.array([]), weights)) is None
    assert interval_of_share(np.array([]), []) is None


def test_resampled_auc_is_that_of_scikit_learn() -> None:
    """With ties, unknown labels and weights."""
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 200).astype(float)
    truth[:20] = np.nan
    scores = np.round(random.normal(size=200) + np.nan_to_num(truth), 1)
    weights = resample(ALONE, resamples=20)
    expected = [roc_auc_score(truth[20:], scores[20:], sample_weight=row[20:]) for row in weights]
    assert np.allclose(resampled_auc(truth, scores, weights), expected)


def test_large_sets_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same figures."""
    random = np.random.default_rng(1)
    truth, scores, weights = random.integers(0, 2, 200).astype(float), random.normal(size=200), resample(ALONE)
    whole = resampled_auc(truth, scores, weights)
    monkeypatch.setattr("cxr_triage.training.evaluation.intervals.BLOCK", 7000)
    assert np.array_equal(resampled_auc(truth, scores, weights), whole)


def test_resample_without_a_class_has_no_auc() -> None:
    """And is left out of the macro AUC and of the interval."""
    areas = resampled_auc(np.array([1.0, 0.0]), np.array([0.9, 0.1]), np.array([[1, 1], [2, 0]], dtype=np.uint16))
    assert areas.tolist() == pytest.approx([1.0, np.nan], nan_ok=True)
    assert macro([areas, np.array([0.5, 0.5])]).tolist() == [0.75, 0.5]
    assert interval(np.array([np.nan, np.nan, 0.5])) is None


def test_auc_interval_covers() -> None:
    """Of 100 intervals around a network whose true AUC is known, about 95 hold it."""
    truth_auc = norm.cdf(1 / np.sqrt(2))
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        truth = (np.arange(200) < 80).astype(float)
        bounds = interval(resampled_auc(truth, random.normal(size=200) + truth, resample(ALONE, resamples=300)))
        assert bounds is not None
        covered += bounds[0] <= truth_auc <= bounds[1]
    assert 89 <= covered <= 100


def test_patients_with_many_images_widen_the_interval() -> None:
    """Ten copies of an image are one witness."""
    random = np.random.default_rng(2)
    values = random.normal(size=50)
    alone = interval(resampled_mean(values, resample([f"p{number}" for number in range(50)])))
    copied = interval(resampled_mean(np.repeat(values, 10), resample([f"p{number}" for number in range(50)] * 10)))
    grouped = interval(resampled_mean(np.repeat(values, 10), resample([f"p{n}" for n in range(50) for _ in range(10)])))
    assert alone is not None
    assert copied is not None
    assert grouped == pytest.approx(alone)
    assert copied[1] - copied[0] < (alone[1] - alone[0]) / 2


@pytest.mark.parametrize(("power", "true_error"), [(1, 0.0), (2, 1 / 6)])
def test_calibration_interval_covers(power: int, true_error: float) -> None:
    """An honest network, whose true error of zero plain percentiles would never hold, and one that overstates."""
    random = np.random.default_rng(4)
    weights = resample(ALONE, resamples=300)
    covered, widths = 0, []
    for _ in range(100):
        probabilities = random.uniform(size=200)
        labels = (random.uniform(size=200) < probabilities**power).astype(float)
        gaps = calibration_gaps(probabilities, labels, weights)
        low, high = interval_of_gaps(gaps, calibration_gaps(probabilities, labels)[0]) or [np.nan, np.nan]
        covered += low <= true_error <= high
        widths.append(high - low)
    assert covered >= 92
    assert np.mean(widths) < 0.25


def test_share_of_nothing_has_an_interval() -> None:
    """No hit among 30 patients: at most 11.6 % (exact binomial)."""
    assert interval_of_share(np.zeros(30), ALONE[:30]) == pytest.approx([0.0, 1 - 0.025 ** (1 / 30)])
    assert interval_of_share(np.ones(30), ALONE[:30]) == pytest.approx([0.025 ** (1 / 30), 1.0])
    low, high = interval_of_share((np.arange(200) % 2).astype(np.float64), ALONE) or [np.nan, np.nan]
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / np.sqrt(200), abs=0.01)
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / np.sqrt(200), abs=0.01)
