"""Noisy labels: what the network is asked to say, and what it ends up saying."""

import pytest
import torch

from cxr_triage.training.losses import believed_targets, forward_corrected, masked_bce


def test_a_label_that_is_believed_keeps_its_logit() -> None:
    """Sensitivity and specificity of 1 change nothing, not even far out."""
    logits = torch.tensor([[-40.0, -3.0, 0.0, 2.0, 40.0]])
    ones = torch.ones_like(logits)
    assert torch.allclose(forward_corrected(logits, ones, ones), logits, atol=1e-4)


def test_corrected_probability_is_that_of_the_label() -> None:
    """Q = s p + (1 - c) (1 - p)."""
    logits = torch.linspace(-6, 6, 13)[None]
    sensitivity, specificity = torch.full_like(logits, 0.458), torch.full_like(logits, 0.969)
    p = logits.sigmoid()
    expected = 0.458 * p + (1 - 0.969) * (1 - p)
    assert torch.allclose(forward_corrected(logits, sensitivity, specificity).sigmoid(), expected, atol=1e-6)


def test_gradients_are_finite_where_labels_contradict_certainty() -> None:
    """A believed label against a certain network is a large loss, not one that is no number."""
    logits = torch.tensor([[-60.0, 60.0]], requires_grad=True)
    ones = torch.ones(1, 2)
    masked_bce(forward_corrected(logits, ones, ones), torch.tensor([[1.0, 0.0]])).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


@pytest.mark.parametrize("model", ["forward", "soft"])
def test_noise_model_finds_the_prevalence_of_the_truth(model: str) -> None:
    """Labels of a disease of 30 % that miss half of it: the network says 30 %, not the 18.5 % that are labelled."""
    present, absent = torch.arange(300) < 150, torch.arange(700) < 35
    labels = torch.cat([present, absent]).float()[:, None]
    sensitivity, specificity = torch.full_like(labels, 0.5), torch.full_like(labels, 0.95)
    logit = torch.zeros(1, 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=50)
    targets = believed_targets(labels, sensitivity, specificity) if model == "soft" else labels

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = logit.expand_as(labels)
        said = forward_corrected(logits, sensitivity, specificity) if model == "forward" else logits
        value = masked_bce(said, targets)
        value.backward()  # type: ignore[no-untyped-call]  # torch's own
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch's own
    assert float(labels.mean()) == pytest.approx(0.185)
    assert float(logit.detach().sigmoid()) == pytest.approx(0.3, abs=1e-3)


def test_soft_targets_are_predictive_values() -> None:
    """By Bayes' rule, for a prevalence that is inside what the noise allows; unknown labels stay unknown."""
    labels = torch.tensor([[1.0], [0.0], [0.0], [0.0], [float("nan")]])
    soft = believed_targets(labels, torch.full_like(labels, 0.8), torch.full_like(labels, 0.9))
    prevalence = (0.25 - 0.1) / 0.7
    positive = 0.8 * prevalence / 0.25
    negative = 0.2 * prevalence / 0.75
    assert torch.allclose(soft[:4, 0], torch.tensor([positive, negative, negative, negative]))
    assert soft[4].isnan()
