"""The multi-task network of Guendel et al. 2019: one encoder, and heads for abnormalities, locations and masks.

Tensors in, tensors out; what the outputs mean is the bundle card's to say.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.nets.densenet import DenseNet121
from torch import Tensor, nn
from torch.nn import functional

from cxr_triage.model.bundle import NetworkShape


class Outputs(NamedTuple):
    """Raw outputs for a batch of B images; K = channels of the last encoder stage."""

    #: (B, abnormalities) logits.
    abnormality: Tensor
    #: (B, locations) logits.
    location: Tensor
    #: (decoded, structures, S/2, S/2) logits.
    mask: Tensor
    #: (B, K) pooled features.
    pooled: Tensor
    #: (B, K, S/32, S/32) the feature maps that were pooled: class activation maps come from them.
    features: Tensor


class MultiTaskNetwork(nn.Module):
    """Grey radiographs (B, 1, S, S), float in [0, 1], to `Outputs`."""

    #: ImageNet statistics of luma, averaged over the three channels that the first layer was trained on.
    GREY_MEAN: Final = 0.449
    GREY_STD: Final = 0.226

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder: nn.Module = ENCODERS[shape.encoder]()
        channels: Sequence[int] = self.encoder.stage_channels  # type: ignore[assignment]  # a module's attributes are tensors to torch's stubs
        self.decoder = Decoder(channels, shape.decoder_channels, shape.structures)
        self.dropout = nn.Dropout(shape.dropout)
        self.abnormality = nn.Linear(channels[-1], shape.abnormalities)
        self.location = nn.Linear(channels[-1], shape.locations)

    def forward(self, images_B1SS: Tensor, *, decoded: int | None = None) -> Outputs:
        """Run all heads; the decoder only on the first `decoded` images, where just those have masks to learn."""
        stages = self.encoder((images_B1SS - self.GREY_MEAN) / self.GREY_STD)
        pooled = stages[-1].mean(dim=(2, 3))
        dropped = self.dropout(pooled)
        return Outputs(
            abnormality=self.abnormality(dropped),
            location=self.location(dropped),
            mask=self.decoder([stage[:decoded] for stage in stages]),
            pooled=pooled,
            features=stages[-1],
        )

    def activation_maps(self, outputs: Outputs) -> Tensor:
        """Class activation maps (B, abnormalities, S/32, S/32): each finding's logit, before it was averaged."""
        return torch.einsum("bkhw,ak->bahw", outputs.features, self.abnormality.weight)


class Decoder(nn.Module):
    """U-Net decoder from the encoder's five stages (strides 2 to 32) to mask logits at stride 2."""

    def __init__(self, encoder_channels: Sequence[int], channels: Sequence[int], structures: int) -> None:
        super().__init__()
        *skips, deepest = encoder_channels
        inputs = (deepest, *channels[:-1])
        self.blocks = nn.ModuleList(
            Convolution(2, below + skip, out, kernel_size=3, adn_ordering="NA", act="relu", norm="batch")
            for below, skip, out in zip(inputs, reversed(skips), channels, strict=True)
        )
        self.refine = Convolution(
            2, channels[-1], channels[-1], kernel_size=3, adn_ordering="NA", act="relu", norm="batch"
        )
        self.head = nn.Conv2d(channels[-1], structures, kernel_size=1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Stages of strides 2, 4, 8, 16 and 32 to logits (B, structures, S/2, S/2)."""
        *skips, maps = stages
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            maps = functional.interpolate(maps, skip.shape[-2:], mode="bilinear", align_corners=False)
            maps = block(torch.cat((maps, skip), dim=1))
        logits: Tensor = self.head(self.refine(maps))
        return logits


class DenseNetEncoder(nn.Module):
    """DenseNet-121 (the paper's encoder), stages before each reduction."""

    stage_channels = (64, 256, 512, 1024, 1024)

    def __init__(self) -> None:
        super().__init__()
        self.features = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1).features

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 1, S, S) to feature maps at strides 2, 4, 8, 16 and 32."""
        stages = []
        maps = images
        for name, layer in self.features.named_children():
            maps = layer(maps)
            if name in {"relu0", "denseblock1", "denseblock2", "denseblock3", "norm5"}:
                stages.append(maps)
        stages[-1] = functional.relu(stages[-1])
        return stages


#: (expansion, channels, repeats, stride, kernel) per stage of EfficientNet-B0 (Tan & Le 2019, table 1).
LITE0_STAGES: Final = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


class InvertedResidual(nn.Module):
    """MBConv without squeeze-and-excitation and with ReLU6: the "lite" variant, which quantises and traces well."""

    def __init__(self, channels_in: int, channels_out: int, *, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        expand = [_conv_norm(channels_in, hidden, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        self.layers = nn.Sequential(
            *expand,
            _conv_norm(hidden, hidden, kernel, stride=stride, groups=hidden),
            nn.ReLU6(inplace=True),
            _conv_norm(hidden, channels_out, 1),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, channels_in, h, w) to (B, channels_out, h / stride, w / stride)."""
        out: Tensor = self.layers(maps)
        return maps + out if self.residual else out


class EfficientNetLite0Encoder(nn.Module):
    """EfficientNet-lite0: a light encoder with public ImageNet weights."""

    stage_channels = (16, 24, 40, 112, 1280)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv_norm(1, 32, 3, stride=2), nn.ReLU6(inplace=True))
        blocks = []
        channels = 32
        for expansion, width, repeats, first_stride, kernel in LITE0_STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(InvertedResidual(channels, width, expansion=expansion, stride=stride, kernel=kernel))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(_conv_norm(channels, 1280, 1), nn.ReLU6(inplace=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 1, S, S) to feature maps at strides 2, 4, 8, 16 and 32."""
        maps = self.stem(images)
        stages = []
        for index, block in enumerate(self.blocks):
            maps = block(maps)
            # The last block before each reduction: strides 2, 4, 8 and 16.
            if index in {0, 2, 4, 10}:
                stages.append(maps)
        return [*stages, self.head(maps)]


def _conv_norm(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01),
    )


ENCODERS: Final = {"densenet121": DenseNetEncoder, "efficientnet_lite0": EfficientNetLite0Encoder}
