"""The three losses of the multi-task network, each masked where nothing is known."""

import torch
from torch import Tensor
from torch.nn import functional


def positive_weights(targets_NK: Tensor, *, largest: float) -> tuple[Tensor, Tensor]:
    """Class weights w+ = (P+N)/P and w- = (P+N)/N, scaled so that their mean is 1, from training counts.

    Args:
        targets_NK: 0, 1 or NaN.
        largest: bound of w+ / w-.

    Returns:
        w+ and w- per output, (K,).
    """
    positives = (targets_NK == 1).sum(dim=0).float()
    negatives = (targets_NK == 0).sum(dim=0).float()
    ratio = (negatives / positives.clamp(min=1)).clamp(1 / largest, largest)
    # Scaled so that an output's expected loss weight is 1: rare labels do not drown the others.
    share = positives / (positives + negatives).clamp(min=1)
    w_negative = 1 / (share * ratio + (1 - share))
    return ratio * w_negative, w_negative


def masked_bce(logits_BK: Tensor, targets_BK: Tensor, weights: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Binary cross-entropy, mean over the known targets; 0 where none is known.

    Args:
        logits_BK: raw outputs.
        targets_BK: 0 to 1 (soft targets allowed), NaN = unknown.
        weights: w+ and w- per output.
    """
    known = ~targets_BK.isnan()
    targets = targets_BK.nan_to_num(0.0)
    losses = functional.binary_cross_entropy_with_logits(logits_BK.float(), targets, reduction="none")
    if weights is not None:
        positive, negative = weights
        losses = losses * (targets * positive + (1 - targets) * negative)
    return (losses * known).sum() / known.sum().clamp(min=1)


def segmentation_loss(logits_BCHW: Tensor, shares_BCHW: Tensor) -> Tensor:
    """Binary cross-entropy plus soft Dice, per structure.

    Args:
        logits_BCHW: raw mask outputs.
        shares_BCHW: share of each pixel that the structure covers, 0 to 1.
    """
    logits = logits_BCHW.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, shares_BCHW)
    probabilities = logits.sigmoid()
    overlap = (probabilities * shares_BCHW).sum(dim=(0, 2, 3))
    total = probabilities.sum(dim=(0, 2, 3)) + shares_BCHW.sum(dim=(0, 2, 3))
    dice: Tensor = (2 * overlap + 1) / (total + 1)
    return entropy + (1 - dice).mean()


def soft_targets(labels_BK: Tensor, teacher_BK: Tensor, *, share: float) -> Tensor:
    """Mix a teacher's probabilities into the labels, where it has any."""
    return torch.where(teacher_BK.isnan() | labels_BK.isnan(), labels_BK, (1 - share) * labels_BK + share * teacher_BK)
