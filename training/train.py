"""The training loop: one network, three tasks, several sources in every batch."""

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cxr_triage.model.devices import choose_device
from cxr_triage.model.network import EfficientNetLite0Encoder, MultiTaskNetwork
from cxr_triage.training.augment import random_exposure, random_geometry, random_occlusion, warp
from cxr_triage.training.cache import prepared_images, prepared_masks
from cxr_triage.training.data import DataError, Sample, split_of
from cxr_triage.training.losses import masked_bce, positive_weights, segmentation_loss, soft_targets
from cxr_triage.training.metrics import auc, dice
from cxr_triage.training.pretrained import load_imagenet_lite0
from cxr_triage.training.recipes import Recipe
from cxr_triage.training.targets import ABNORMAL_OUTPUT, OUTPUTS, targets_of

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """Prepared images and targets of one split, in memory or memory-mapped."""

    samples: list[Sample]
    #: Prepared, (N, S, S).
    images: NDArray[np.uint8]
    #: Rows of `images` that have masks, and in the same order how much of each pixel they cover, (M, 3, S, S).
    masked_rows: NDArray[np.int64]
    masks: NDArray[np.uint8]
    #: As in `Targets`.
    abnormality: Tensor
    teacher: Tensor
    location: Tensor

    @classmethod
    def of(cls, samples: list[Sample], size: int, cache: Path) -> "TrainingSet":
        """Prepare the images (cached) and collect the targets."""
        targets = targets_of(samples)
        masked = [index for index, sample in enumerate(samples) if sample.mask]
        return cls(
            samples=samples,
            images=prepared_images(samples, size, cache),
            masked_rows=np.array(masked, dtype=np.int64),
            masks=prepared_masks([samples[index] for index in masked], size),
            abnormality=torch.from_numpy(targets.abnormality),
            teacher=torch.from_numpy(targets.teacher),
            location=torch.from_numpy(targets.location),
        )

    def rows_where(self, source: str) -> NDArray[np.int64]:
        """Rows of one source."""
        return np.array([i for i, sample in enumerate(self.samples) if sample.source == source], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One step's images, augmented; those with masks stand first."""

    images: Tensor
    #: Share covered per structure on the decoder's grid, (masked, structures, S/2, S/2).
    masks: Tensor
    #: Rows of the training set.
    rows: NDArray[np.int64]


class Batches:
    """Endless batches with a fixed share of each kind of image."""

    def __init__(self, data: TrainingSet, recipe: Recipe, generator: Generator) -> None:
        self._data = data
        self._generator = generator
        self._shares = {
            "masked": (np.arange(len(data.masked_rows)), recipe.batch.masked),
            "labelled": (data.rows_where("nih"), recipe.batch.labelled),
            "paediatric": (data.rows_where("kermany"), recipe.batch.paediatric),
        }
        for kind, (rows, count) in self._shares.items():
            if len(rows) < count:
                raise DataError(
                    f"the recipe wants {count} {kind} images in each batch, the training part has {len(rows)}"
                )
        self.steps_per_epoch = len(self._shares["labelled"][0]) // recipe.batch.labelled

    def __iter__(self) -> Iterator[Batch]:
        streams = {kind: self._shuffled(rows, count) for kind, (rows, count) in self._shares.items()}
        while True:
            masked = next(streams["masked"])
            others = np.concatenate([next(streams["labelled"]), next(streams["paediatric"])])
            yield self._batch(masked, others)

    def _shuffled(self, rows: NDArray[np.int64], count: int) -> Iterator[NDArray[np.int64]]:
        while True:
            order = rows[torch.randperm(len(rows), generator=self._generator).numpy()]
            for start in range(0, len(order) - count + 1, count):
                yield order[start : start + count]

    def _batch(self, masked: NDArray[np.int64], others: NDArray[np.int64]) -> Batch:
        rows = np.concatenate([self._data.masked_rows[masked], others])
        images = torch.from_numpy(self._data.images[rows]).unsqueeze(1).float() / 255
        matrices = random_geometry(len(rows), self._generator)
        images = random_occlusion(random_exposure(warp(images, matrices), self._generator), self._generator)
        masks = torch.from_numpy(self._data.masks[masked]).float() / 255
        masks = functional.avg_pool2d(warp(masks, matrices[: len(masked)]), 2)
        return Batch(images=images, masks=masks, rows=rows)


class Trainer:
    """Trains one network by one recipe; a checkpoint after every epoch, from which `run` goes on."""

    def __init__(self, recipe: Recipe, samples: list[Sample], work: Path, *, device: str = "auto") -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.work = work
        self.device = choose_device(device)
        parts = {
            split: TrainingSet.of(
                [sample for sample in samples if split_of(sample.patient) == split], recipe.input_size, work / "cache"
            )
            for split in ("train", "validation")
        }
        self.training, self.validation = parts["train"], parts["validation"]
        self.generator = Generator().manual_seed(recipe.seed)
        self.batches = Batches(self.training, recipe, self.generator)
        self.network = self._new_network()
        self.average = AveragedModel(
            self.network,
            multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay),  # type: ignore[no-untyped-call]  # torch's own
            use_buffers=True,
        )
        self.optimizer = self._new_optimizer()
        self.weights = positive_weights(self.training.abnormality, largest=recipe.largest_positive_weight)
        self.epoch = 0

    def _new_network(self) -> MultiTaskNetwork:
        network = MultiTaskNetwork(self.recipe.network_shape())
        if isinstance(network.encoder, EfficientNetLite0Encoder):
            load_imagenet_lite0(network.encoder)
            for module in (network.encoder.stem, *network.encoder.blocks[: self.recipe.frozen_blocks]):
                module.requires_grad_(self.recipe.frozen_blocks == 0)
        network.to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        return network

    def _new_optimizer(self) -> torch.optim.Optimizer:
        peak = self.recipe.learning_rate
        encoder = list(self.network.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [
            {"params": encoder, "peak": peak * self.recipe.encoder_learning_rate_share},
            {"params": others, "peak": peak},
        ]
        return torch.optim.AdamW(groups, lr=peak, weight_decay=self.recipe.weight_decay)

    def run(self) -> MultiTaskNetwork:
        """Train to the recipe's last epoch and return the averaged network."""
        self._resume()
        batches = iter(self.batches)
        while self.epoch < self.recipe.epochs:
            started = time.monotonic()
            losses = [self._step(next(batches), step) for step in range(self.batches.steps_per_epoch)]
            self.epoch += 1
            figures = {"epoch": self.epoch, "loss": float(np.mean(losses)), "seconds": time.monotonic() - started}
            self._record(figures | self.validate())
            self._save()
        network = self.average.module
        assert isinstance(network, MultiTaskNetwork)
        return network.eval()

    def _step(self, batch: Batch, step: int) -> float:
        self._schedule(self.epoch + step / self.batches.steps_per_epoch)
        self.network.train()
        images = batch.images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.network(images, decoded=len(batch.masks))
        labels = self.training.abnormality[batch.rows]
        targets = soft_targets(labels, self.training.teacher[batch.rows], share=self.recipe.distillation_weight)
        weights = (self.weights[0].to(self.device), self.weights[1].to(self.device))
        loss = (
            masked_bce(outputs.abnormality, targets.to(self.device), weights)
            + self.recipe.location_weight
            * masked_bce(outputs.location, self.training.location[batch.rows].to(self.device))
            + self.recipe.segmentation_weight * segmentation_loss(outputs.mask, batch.masks.to(self.device))
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return float(loss.detach())

    def _schedule(self, progress: float) -> None:
        """One epoch of warm-up, then a cosine down to a hundredth."""
        cosine = 0.505 + 0.495 * math.cos(math.pi * min(progress / self.recipe.epochs, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * cosine * min(progress + 0.02, 1)

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Figures on the validation patients, with the averaged weights."""
        network = self.average.module.eval()
        data = self.validation
        rows = data.rows_where("nih")
        logits = torch.cat([self._outputs(network, part)[0] for part in np.array_split(rows, max(len(rows) // 16, 1))])
        scores, labels = logits.numpy(), data.abnormality[rows].numpy()
        areas = {name: auc(labels[:, k], scores[:, k]) for k, name in enumerate(OUTPUTS)}
        reported = [area for name, area in areas.items() if area is not None and name != ABNORMAL_OUTPUT]
        masks = [self._outputs(network, np.array([row]))[1][0] > 0 for row in data.masked_rows]
        truth = torch.from_numpy(data.masks).float().div(255)
        truth = functional.avg_pool2d(truth, 2) > 0.5
        lungs = [
            dice(mask[:2].any(0).numpy(), true[:2].any(0).numpy()) for mask, true in zip(masks, truth, strict=True)
        ]
        heart = [dice(mask[2].numpy(), true[2].numpy()) for mask, true in zip(masks, truth, strict=True)]
        return {
            "macro_auc": float(np.mean(reported)) if reported else math.nan,
            "abnormal_auc": areas[ABNORMAL_OUTPUT] or math.nan,
            "lungs_dice": float(np.mean(lungs)),
            "heart_dice": float(np.mean(heart)),
        }

    def _outputs(self, network: nn.Module, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(self.validation.images[rows]).unsqueeze(1).float() / 255
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = network(images.to(self.device, memory_format=torch.channels_last))
        return outputs.abnormality.float().cpu(), outputs.mask.float().cpu()

    def _record(self, figures: dict[str, float]) -> None:
        log.info("epoch", **{name: round(value, 4) for name, value in figures.items()})
        path = self.work / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as lines:
            writer = csv.DictWriter(lines, fieldnames=list(figures))
            if fresh:
                writer.writeheader()
            writer.writerow(figures)

    def _save(self) -> None:
        state = {
            "recipe": self.recipe.name,
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }
        partial = self.work / "checkpoint.partial.pt"
        torch.save(state, partial)
        partial.rename(self.work / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.work / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["recipe"] != self.recipe.name:
            raise DataError(f"{path} comes from the recipe {state['recipe']!r}: name another work folder")
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
