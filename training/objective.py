"""What a network is asked for, on a batch of a training set: the recipe's losses and their weighted sum."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr_triage.model.network import Outputs
from cxr_triage.training.losses import (
    believed_targets,
    forward_corrected,
    masked_bce,
    positive_weights,
    segmentation_loss,
    soft_targets,
)
from cxr_triage.training.recipes import Recipe
from cxr_triage.training.targets import Targets


class Objective:
    """The weighted sum of the three tasks' losses for one training set."""

    def __init__(self, recipe: Recipe, targets: Targets, sources: Sequence[str], device: torch.device) -> None:
        self._recipe = recipe
        self._device = device
        self._labels = torch.from_numpy(targets.abnormality)
        self._location = torch.from_numpy(targets.location)
        self._sensitivity = torch.from_numpy(targets.sensitivity)
        self._specificity = torch.from_numpy(targets.specificity)
        positive, negative = positive_weights(self._labels, largest=recipe.largest_positive_weight)
        self._weights = (positive.to(device), negative.to(device))
        believed = self._believed(sources) if recipe.noise == "soft" else self._labels
        self._targets = soft_targets(believed, torch.from_numpy(targets.teacher), share=recipe.distillation_weight)

    def __call__(self, outputs: Outputs, masks: Tensor, rows: NDArray[np.int64]) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            outputs: of the network on the batch.
            masks: as `Batch.masks`.
            rows: of the training set.
        """
        loss = masked_bce(self._noisy(outputs.abnormality, rows), self._on(self._targets, rows), self._weights)
        if self._recipe.location_weight:
            location = masked_bce(outputs.location, self._on(self._location, rows))
            loss = loss + self._recipe.location_weight * location
        if self._recipe.segmentation_weight:
            loss = loss + self._recipe.segmentation_weight * segmentation_loss(outputs.mask, masks.to(self._device))
        return loss

    def _noisy(self, logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        if self._recipe.noise != "forward":
            return logits
        return forward_corrected(logits, self._on(self._sensitivity, rows), self._on(self._specificity, rows))

    def _believed(self, sources: Sequence[str]) -> Tensor:
        """Soft targets source by source: each has a prevalence and a noise of its own."""
        believed = self._labels.clone()
        for source in sorted(set(sources)):
            rows = torch.tensor([own == source for own in sources])
            believed[rows] = believed_targets(self._labels[rows], self._sensitivity[rows], self._specificity[rows])
        return believed

    def _on(self, values: Tensor, rows: NDArray[np.int64]) -> Tensor:
        return values[rows].to(self._device)
