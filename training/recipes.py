"""Frozen training configurations, by name."""

from dataclasses import dataclass, field
from typing import Final, Literal

from cxr_triage.model.bundle import EncoderName, NetworkShape, PoolingName
from cxr_triage.model.findings import LOCATIONS, STRUCTURES

#: Prepared images are kept at this multiple of the network's input where it looks closer.
DETAIL: Final = 2

#: What is made of a source's known label noise: nothing, forward correction of the loss, or soft targets.
NoiseModel = Literal["off", "forward", "soft"]


@dataclass(frozen=True, kw_only=True)
class BatchShare:
    """How many images of one kind stand in each micro-batch."""

    #: Adult radiographs with abnormality labels; an epoch is one pass over these.
    labelled: int = 12
    #: Radiographs with masks.
    masked: int = 4
    #: Paediatric radiographs: they warm up the encoder.
    paediatric: int = 2


@dataclass(frozen=True, kw_only=True)
class Outlining:
    """The last phase: outlines alone, by deeper blocks of their own that start as copies of the encoder's."""

    steps: int
    #: Radiographs with masks in each step.
    images: int = 16
    #: Peak of the schedule.
    learning_rate: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides a training run beside its data."""

    name: str
    encoder: EncoderName
    #: Side of the network's input, pixels.
    input_size: int
    epochs: int
    pooling: PoolingName = "mean"
    #: Epochs after which the network looks closer, at the rectangle around the lungs that it has learned to outline by
    #: then; None = always at the whole frame.
    closer_from: int | None = None
    batch: BatchShare = field(default_factory=BatchShare)
    #: Micro-batches of one step: what is computed at once, by one process in turn or by several at the same time.
    micro_batches: int = 1
    #: Peak of the one-cycle schedule, for the heads and the decoder; the pretrained encoder gets a share of it.
    learning_rate: float = 2e-3
    encoder_learning_rate_share: float = 0.25
    #: Epochs before the encoder begins to learn: gradients from heads and decoder that know nothing yet would wreck it
    #: (Kumar et al. 2022, *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*).
    encoder_from: int = 0
    weight_decay: float = 0.02
    #: Whether the encoder starts from public ImageNet weights.
    pretrained: bool = True
    #: First blocks of the pretrained encoder, with its stem, that stay as they are: edges and textures are the same
    #: everywhere, and their large maps cost more than a third of a step.
    frozen_blocks: int = 0
    #: Whether the encoder's batch normalization stays as its pretraining left it: the statistics of small batches from
    #: several sources wreck what it knew before it can learn anything new.
    frozen_norms: bool = False
    #: Weights of the loss terms, on the paper's order of 1.
    location_weight: float = 0.2
    segmentation_weight: float = 1.0
    #: Whether the abnormality head is solved for in closed form once the encoder is trained.
    closed_form: bool = False
    #: The phase that follows; None = outlines are made of what the encoder gives findings.
    outlining: Outlining | None = None
    #: Share of the teacher in the abnormality loss where it has a probability; 0 = labels only.
    distillation_weight: float = 0.5
    noise: NoiseModel = "off"
    #: Largest weight of a rare positive in the abnormality loss.
    largest_positive_weight: float = 8.0
    #: Decay of the exponential moving average of the weights, per step.
    ema_decay: float = 0.998
    seed: int = 20190517

    def __post_init__(self) -> None:
        if self.encoder != "efficientnet_lite0" and (self.frozen_blocks or self.outlining):
            raise ValueError("frozen_blocks and outlining are for the encoder efficientnet_lite0 alone")

    @property
    def prepared_size(self) -> int:
        """Side at which prepared images are kept, pixels: a closer look needs more than the network's input."""
        return self.input_size * (1 if self.closer_from is None else DETAIL)

    def network_shape(self, outputs: int) -> NetworkShape:
        """The network that this recipe trains, for a number of abnormality outputs."""
        return NetworkShape(
            encoder=self.encoder,
            pooling=self.pooling,
            closer_look=self.closer_from is not None,
            input_size=self.input_size,
            abnormalities=outputs,
            locations=len(LOCATIONS),
            structures=len(STRUCTURES),
        )


RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        #: The network of Guendel et al. 2019; for machines with a GPU.
        Recipe(
            name="paper",
            encoder="densenet121",
            input_size=512,
            epochs=30,
            batch=BatchShare(labelled=7, masked=1, paediatric=0),
            micro_batches=8,
            distillation_weight=0.0,
            noise="forward",
        ),
        #: What ships: an hour on one CPU core.
        Recipe(
            name="small",
            encoder="efficientnet_lite0",
            input_size=256,
            epochs=13,
            pooling="pyramid",
            closer_from=2,
            batch=BatchShare(labelled=8, masked=8, paediatric=2),
            encoder_learning_rate_share=0.1,
            encoder_from=1,
            frozen_blocks=3,
            frozen_norms=True,
            segmentation_weight=2.0,
            closed_form=True,
            ema_decay=0.99,
            outlining=Outlining(steps=800),
        ),
        #: A minute, for tests: proves that the chain runs, not that it learns.
        Recipe(
            name="smoke",
            encoder="efficientnet_lite0",
            input_size=64,
            epochs=2,
            pooling="pyramid",
            closer_from=1,
            frozen_norms=True,
            closed_form=True,
            batch=BatchShare(labelled=4, masked=2, paediatric=2),
            outlining=Outlining(steps=6, images=4),
        ),
    )
}
