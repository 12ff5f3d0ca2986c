"""The multi-task network of Guendel et al. 2019: one encoder, and heads for abnormalities, locations and masks.

Tensors in, tensors out; what the outputs mean is the bundle card's to say.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from monai.networks.blocks.convolutions import Convolution
from monai.networks.nets.densenet import DenseNet121
from torch import Tensor, nn
from torch.nn import functional

from cxr_triage.model.bundle import NetworkShape, PoolingName


class Outputs(NamedTuple):
    """Raw outputs for a batch of B images; K = channels of the encoder's stage at stride 16."""

    #: (B, abnormalities) logits.
    abnormality: Tensor
    #: (B, locations) logits.
    location: Tensor
    #: (decoded, structures, S/2, S/2) logits.
    mask: Tensor
    #: (B, 2 K) mean and standard deviation of each feature map at stride 16, which the gate asks.
    statistics: Tensor
    #: (B, W) what the heads read.
    read: Tensor
    #: Feature maps that were pooled for the heads, by stage: class activation maps come from them.
    features: tuple[Tensor, ...]


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
        #: Blocks that outlines have to themselves, where they have any.
        self.outlining = EfficientNetLite0Outlining() if shape.own_outlining else None
        self.decoder = Decoder(
            channels if self.outlining is None else self.outlining.stage_channels,
            shape.decoder_channels,
            shape.structures,
        )
        self.pooling = POOLINGS[shape.pooling](channels)
        self.standardisation = Standardisation(self.pooling.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.abnormality = nn.Linear(self.pooling.width, shape.abnormalities)
        self.location = nn.Linear(self.pooling.width, shape.locations)

    def forward(self, images_B1SS: Tensor, *, decoded: int | None = None) -> Outputs:
        """Run all heads; the decoder only on the first `decoded` images, where just those have masks to learn."""
        stages = self.encoder(self._normalised(images_B1SS))
        read = self.pooling(stages)
        dropped = self.dropout(self.standardisation(read))
        outlined = [stage[:decoded] for stage in stages]
        return Outputs(
            abnormality=self.abnormality(dropped),
            location=self.location(dropped),
            mask=self.decoder(outlined if self.outlining is None else self.outlining(outlined)),
            statistics=torch.cat((stages[-2].mean(dim=(2, 3)), stages[-2].std(dim=(2, 3))), dim=1),
            read=read,
            features=tuple(stages[-self.pooling.stages :]),
        )

    def outlines(self, images_B1SS: Tensor) -> Tensor:
        """Mask logits alone (B, structures, S/2, S/2), of a network whose outlines have blocks of their own."""
        assert isinstance(self.encoder, EfficientNetLite0Encoder)
        assert self.outlining is not None
        shared = self.encoder.stages(self._normalised(images_B1SS), EfficientNetLite0Outlining.SHARED)
        logits: Tensor = self.decoder(self.outlining(shared))
        return logits

    def _normalised(self, images: Tensor) -> Tensor:
        return (images - self.GREY_MEAN) / self.GREY_STD

    def activation_maps(self, outputs: Outputs) -> Tensor:
        """Class activation maps (B, abnormalities, h, w): what each place adds to each finding's logit.

        Their sum over all places is the logit but for a constant: the bias, and what the mean chest takes off.
        """
        return self.pooling.spread(outputs.features, self.abnormality.weight / self.standardisation.deviation)


class Standardisation(nn.Module):
    """What the heads read, with mean 0 and deviation 1 in each feature, then as a whole shrunk to a length of about 1.

    A head that reads thousands of features of very different size is thrown about by every step of its optimizer, and
    what it throws back shrinks the encoder's maps until they are 0. Standardised features are the rule for linear heads
    (He et al. 2022, *Masked Autoencoders Are Scalable Vision Learners*, A.1); divided by the root of their number, a
    step moves a logit by no more than it moves a weight times that root.
    """

    #: Features that vary less than this are not blown up: they may wake up later.
    LEAST_DEVIATION: Final = 1e-2

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def fit(self, read_NW: Tensor) -> None:
        """Take mean and deviation from what an encoder reads in some images."""
        self.mean.copy_(read_NW.mean(dim=0))
        deviation = read_NW.std(dim=0).clamp(min=self.LEAST_DEVIATION)
        self.deviation.copy_(deviation * math.sqrt(len(deviation)))

    def forward(self, read_BW: Tensor) -> Tensor:
        """The same features, float32 (B, W)."""
        standard: Tensor = (read_BW.float() - self.mean) / self.deviation
        return standard


class MeanPooling(nn.Module):
    """Global average of the last stage: the paper's."""

    stages: Final = 1

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.width = channels[-1]

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Feature maps by stage to (B, width)."""
        return stages[-1].mean(dim=(2, 3))

    def spread(self, features: Sequence[Tensor], weight_AW: Tensor) -> Tensor:
        """What each place adds to each logit, (B, A, S/32, S/32)."""
        return _spread_mean(features[-1], weight_AW)


class PyramidPooling(nn.Module):
    """Averages of the last three stages, as a whole and by cell of a grid, and the maxima of the last one.

    Small findings show in the finer stages and in maxima, and the cells tell the upper lung from the lower, left from
    right.
    """

    stages: Final = 3
    #: Rows and columns of the grid.
    GRID: Final = (3, 2)

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        cells = self.GRID[0] * self.GRID[1]
        *finer, last = channels[-self.stages :]
        #: Widths of the parts, in their order: whole and grid of each finer stage, then whole and maxima of the last.
        self._widths = [width for stage in finer for width in (stage, stage * cells)] + [last, last]
        self.width = sum(self._widths)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Feature maps by stage to (B, width)."""
        *finer, last = stages[-self.stages :]
        parts = []
        for maps in finer:
            parts += [maps.mean(dim=(2, 3)), functional.adaptive_avg_pool2d(maps, self.GRID).flatten(1)]
        return torch.cat([*parts, last.mean(dim=(2, 3)), last.amax(dim=(2, 3))], dim=1)

    def spread(self, features: Sequence[Tensor], weight_AW: Tensor) -> Tensor:
        """What each place adds to each logit, (B, A, S/16, S/16)."""
        *finer, last = features
        weights = torch.split(weight_AW, self._widths, dim=1)
        fine, middle = (
            _spread_mean(maps, weights[2 * index]) + _spread_cells(maps, weights[2 * index + 1], self.GRID)
            for index, maps in enumerate(finer)
        )
        coarse = _spread_mean(last, weights[-2]) + _spread_maxima(last, weights[-1])
        # Sums stay what they are: four fine places make one, a coarse place is shared out among four.
        from_fine = functional.avg_pool2d(fine, 2) * 4
        return from_fine + middle + functional.interpolate(coarse, scale_factor=2, mode="nearest") / 4


def _spread_mean(maps: Tensor, weight_AK: Tensor) -> Tensor:
    """What each place adds by way of the global average."""
    return torch.einsum("bkhw,ak->bahw", maps, weight_AK) / (maps.shape[2] * maps.shape[3])


def _spread_cells(maps: Tensor, weight_AW: Tensor, grid: tuple[int, int]) -> Tensor:
    """What each place adds by way of the averages of the grid's cells, which may overlap by a row or column."""
    rows, columns = (
        functional.adaptive_avg_pool1d(torch.eye(size, dtype=maps.dtype, device=maps.device), cells)
        for size, cells in zip(maps.shape[2:], grid, strict=True)
    )
    weights = weight_AW.reshape(-1, maps.shape[1], *grid).to(maps.dtype)
    return torch.einsum("bkhw,akij,hi,wj->bahw", maps, weights, rows, columns)


def _spread_maxima(maps: Tensor, weight_AK: Tensor) -> Tensor:
    """What each place adds by way of the maxima: a channel's belongs to the first place that has it."""
    flat = maps.flatten(2)
    values, places = flat.max(dim=2, keepdim=True)
    alone = torch.zeros_like(flat).scatter(2, places, values)
    spread = torch.einsum("bkn,ak->ban", alone, weight_AK.to(maps.dtype))
    return spread.reshape(*spread.shape[:2], *maps.shape[2:])


POOLINGS: Final[dict[PoolingName, type[MeanPooling] | type[PyramidPooling]]] = {
    "mean": MeanPooling,
    "pyramid": PyramidPooling,
}


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
#: The last block before each reduction, and the last of all: strides 2, 4, 8, 16 and 32.
LITE0_STAGE_ENDS: Final = (0, 2, 4, 10, 15)


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
        self.blocks = nn.ModuleList(_lite0_blocks())
        self.head = nn.Sequential(_conv_norm(320, 1280, 1), nn.ReLU6(inplace=True))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 1, S, S) to feature maps at strides 2, 4, 8, 16 and 32."""
        *finer, bottleneck = self.stages(images, len(LITE0_STAGE_ENDS))
        return [*finer, self.head(bottleneck)]

    def stages(self, images: Tensor, count: int) -> list[Tensor]:
        """The first `count` stages; the fifth is the bottleneck, before it is spread over 1,280 maps."""
        maps = self.stem(images)
        stages = []
        for index, block in enumerate(self.blocks[: LITE0_STAGE_ENDS[count - 1] + 1]):
            maps = block(maps)
            if index in LITE0_STAGE_ENDS:
                stages.append(maps)
        return stages


class EfficientNetLite0Outlining(nn.Module):
    """The blocks of EfficientNet-lite0 from stride 8 on once more, for outlines alone.

    What findings need of the deeper blocks and what outlines need draw them apart: each gets its own, on a shared start
    (docs/decisions/0020-outlines-have-blocks-of-their-own.md). They end at the bottleneck: the 1,280 maps that follow
    in the encoder are made of it, and four times as dear to the decoder.
    """

    stage_channels = (16, 24, 40, 112, 320)
    #: Stages that are shared with the encoder: strides 2 and 4.
    SHARED: Final = 2
    #: The encoder's block that this one's first is like.
    FIRST_BLOCK: Final = LITE0_STAGE_ENDS[SHARED - 1] + 1

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_lite0_blocks()[self.FIRST_BLOCK :])

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """The encoder's stages to those that the decoder reads."""
        own = list(stages[: self.SHARED])
        maps = own[-1]
        for index, block in enumerate(self.blocks, start=self.FIRST_BLOCK):
            maps = block(maps)
            if index in LITE0_STAGE_ENDS:
                own.append(maps)
        return own


def _lite0_blocks() -> list[InvertedResidual]:
    blocks = []
    channels = 32
    for expansion, width, repeats, first_stride, kernel in LITE0_STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            blocks.append(InvertedResidual(channels, width, expansion=expansion, stride=stride, kernel=kernel))
            channels = width
    return blocks


def _conv_norm(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01),
    )


ENCODERS: Final = {"densenet121": DenseNetEncoder, "efficientnet_lite0": EfficientNetLite0Encoder}
