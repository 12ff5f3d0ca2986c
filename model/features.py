"""What the gate asks of an image's features: how far they lie from those learned from, and if they are a child's."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

#: What the names of these tensors begin with in a weights file, beside those of the network.
GATE: Final = "gate."
#: The same of those of the test for children.
MINOR: Final = f"{GATE}minor_"


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Gaussian of the statistics of feature maps: principal axes whitened, the rest by its mean variance.

    After probabilistic principal component analysis (Tipping & Bishop 1999), whose Mahalanobis distance needs no
    inverse of a covariance matrix that few images cannot fill.
    """

    #: (K,) mean.
    mean: Tensor
    #: (A, K) principal axes, each divided by its standard deviation.
    axes: Tensor
    #: (A,) standard deviation along each axis.
    deviations: Tensor
    #: () mean variance of what the axes leave over.
    residual: Tensor

    @classmethod
    def fit(cls, features_NK: Tensor, axes: int = 64) -> "FeatureSpace":
        """Fit to those of the training images."""
        mean = features_NK.mean(dim=0)
        _, singular, directions = torch.linalg.svd(features_NK - mean, full_matrices=False)
        variances = singular**2 / (len(features_NK) - 1)
        deviations = variances[:axes].sqrt()
        residual = variances[axes:].sum() / (features_NK.shape[1] - axes)
        return cls(mean, directions[:axes] / deviations[:, None], deviations, residual)

    def distances(self, features_NK: Tensor) -> Tensor:
        """Squared Mahalanobis distances (N,), per feature dimension: about 1 for images like the training set's."""
        centred = features_NK - self.mean
        whitened = centred @ self.axes.T
        explained = ((whitened * self.deviations) ** 2).sum(dim=1)
        left_over = ((centred**2).sum(dim=1) - explained).clamp(min=0) / self.residual
        return ((whitened**2).sum(dim=1) + left_over) / features_NK.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """What a bundle stores."""
        return {f"{GATE}{name}": value.contiguous() for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "FeatureSpace":
        """What `tensors` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        return cls(*(tensors[f"{GATE}{name}"] for name in ("mean", "axes", "deviations", "residual")))


@dataclass(frozen=True, eq=False)
class MinorTest:
    """Tells children's chests from adults' where no age is known: a linear score of what the network's heads read."""

    #: (W,) weights of what the heads read.
    weight: Tensor
    #: () the score from which on it is a child's.
    limit: Tensor

    def is_minor(self, read_W: Tensor) -> bool:
        """Whether one whole frame looks like a child's."""
        return bool(read_W @ self.weight >= self.limit)

    def tensors(self) -> dict[str, Tensor]:
        """What a bundle stores."""
        return {f"{MINOR}{name}": value.contiguous() for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "MinorTest | None":
        """What `tensors` gave; None where the bundle has no such test."""
        if f"{MINOR}weight" not in tensors:
            return None
        return cls(tensors[f"{MINOR}weight"], tensors[f"{MINOR}limit"])
