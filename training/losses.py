"""The three losses of the multi-task network, each masked where nothing is known; and what is made of noisy labels."""

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


def forward_corrected(logits_BK: Tensor, sensitivity_BK: Tensor, specificity_BK: Tensor) -> Tensor:
    """Logits of what a noisy label will say, from logits of the truth (forward correction, Patrini et al. 2017).

    q = s p + (1 - c) (1 - p), so that training on the labels still makes p the probability of the truth.

    Args:
        logits_BK: logits of p.
        sensitivity_BK: s, P(labelled | present); 1 where the label is believed.
        specificity_BK: c, P(not labelled | absent); 1 where the label is believed.
    """
    logits = logits_BK.float()
    present, absent = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    # In logarithms, so that a label that is believed (s = c = 1) gives back its logit and nothing underflows.
    labelled = torch.logaddexp(present + _log(sensitivity_BK), absent + _log(1 - specificity_BK))
    unlabelled = torch.logaddexp(present + _log(1 - sensitivity_BK), absent + _log(specificity_BK))
    return labelled - unlabelled


def believed_targets(labels_NK: Tensor, sensitivity_NK: Tensor, specificity_NK: Tensor) -> Tensor:
    """Soft targets: how probable the truth is, given a noisy label (positive and one minus negative predictive value).

    The prevalence of the truth follows from how often the label is given: P(labelled) = s pi + (1 - c) (1 - pi).

    Args:
        labels_NK: 0, 1 or NaN; the prevalence is taken over the rows of one source, whose noise they share.
        sensitivity_NK: as `forward_corrected`.
        specificity_NK: as `forward_corrected`.
    """
    given = labels_NK.nanmean(dim=0).expand_as(labels_NK)
    informed = sensitivity_NK + specificity_NK - 1
    prevalence = ((given - (1 - specificity_NK)) / informed).clamp(0, 1)
    positive = _share(sensitivity_NK * prevalence, (1 - specificity_NK) * (1 - prevalence))
    negative = _share((1 - sensitivity_NK) * prevalence, specificity_NK * (1 - prevalence))
    return labels_NK * positive + (1 - labels_NK) * negative


def _share(part: Tensor, rest: Tensor) -> Tensor:
    return part / (part + rest).clamp(min=1e-12)


def _log(probabilities: Tensor) -> Tensor:
    """Logarithm; finite at 0, whose infinity would make gradients that are not numbers."""
    return probabilities.clamp(min=1e-30).log()
