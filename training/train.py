"""The training loop: one network, three tasks, several sources in every batch."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cxr_triage.model.network import EfficientNetLite0Encoder, MultiTaskNetwork
from cxr_triage.training import checkpoint
from cxr_triage.training.data import DataError, Sample
from cxr_triage.training.distributed import Group
from cxr_triage.training.division import Division
from cxr_triage.training.loader import Batch, Loader, TrainingSet
from cxr_triage.training.look import Look
from cxr_triage.training.minors import only
from cxr_triage.training.norm_statistics import NormStatistics
from cxr_triage.training.objective import Objective
from cxr_triage.training.optimization import averaged, cosine, update
from cxr_triage.training.outlining import OutliningTrainer
from cxr_triage.training.precision import Precision
from cxr_triage.training.pretrained import load_pretrained
from cxr_triage.training.recipes import Recipe
from cxr_triage.training.run_log import record
from cxr_triage.training.targets import outputs_of
from cxr_triage.training.validation import judged_rows, validation_figures

#: Radiographs of adults, spread over all that train, whose features the heads' are standardised by.
STANDARDISED: Final = 512


class Trainer:
    """Trains one network by one recipe; a checkpoint after every epoch, from which `run` goes on."""

    def __init__(self, recipe: Recipe, division: Division, work: Path, group: Group) -> None:
        """Prepare the images, which takes minutes the first time, and build the network.

        Args:
            recipe: what to train.
            division: whose patients train and tune; those who judge are not looked at.
            work: folder of the cache, the checkpoint and the log.
            group: the processes that train together.

        Raises:
            DataError: a part has no images, or fewer than a batch wants.
            ConfigurationError: the processes cannot share the recipe's micro-batches.
        """
        training, validation = division.parts["train"], division.parts["validation"]
        if not training or not validation:
            raise DataError("the patients are too few to train on some and to tune on others: bring more")
        self.recipe, self.work, self.group = recipe, work, group
        self.micros = group.share_of(recipe.micro_batches)
        self.outputs = outputs_of([*training, *validation])
        self.training, self.validation = self._prepared(training, validation)
        self.loader = Loader(self.training, recipe, threads=group.loader_threads)
        self.precision = Precision.of(group.device)
        self.objective = Objective(
            recipe, self.training.targets, [sample.source for sample in self.training.samples], group.device
        )
        torch.manual_seed(recipe.seed)
        self.network = self._new_network()
        self._standardise()
        self.statistics = NormStatistics(self.network.decoder if recipe.frozen_norms else self.network)
        self.average = averaged(self.network, recipe.ema_decay)
        self.optimizer = self._new_optimizer()
        self.scaler = self.precision.scaler()
        self.epoch = 0

    def _prepared(self, *parts: list[Sample]) -> list[TrainingSet]:
        """The first process prepares what the others then find in the cache."""
        if not self.group.leads:
            self.group.wait()
        size, cache = self.recipe.prepared_size, self.work / "cache"
        prepared = [TrainingSet.of(part, self.outputs, size, cache) for part in parts]
        if self.group.leads:
            self.group.wait()
        return prepared

    def _new_network(self) -> MultiTaskNetwork:
        network = MultiTaskNetwork(self.recipe.network_shape(len(self.outputs)))
        if self.recipe.pretrained:
            load_pretrained(network.encoder)
        if self.recipe.frozen_blocks:
            _freeze(network.encoder, self.recipe.frozen_blocks)
        if self.recipe.frozen_norms:
            _freeze_norms(network.encoder)
        # Without its loss a head gets no gradient, which data parallel training would wait for.
        network.decoder.requires_grad_(self.recipe.segmentation_weight > 0)
        network.location.requires_grad_(self.recipe.location_weight > 0)
        network.to(self.group.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        return network

    def _standardise(self) -> None:
        """Let the heads start from features of one size: those of adults' images before the encoder learns."""
        adults = only(self.training, minors=False)
        rows = np.unique(np.linspace(0, len(adults.samples) - 1, STANDARDISED).astype(np.int64))
        look = Look.at_whole(self.network, adults.images, self.precision, self.group.device)
        self.network.standardisation.fit(look.read(rows))

    def _new_optimizer(self) -> torch.optim.Optimizer:
        recipe, peak = self.recipe, self.recipe.learning_rate
        encoder = list(self.network.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in known]
        groups = [
            {"params": encoder, "peak": peak * recipe.encoder_learning_rate_share, "from": recipe.encoder_from},
            {"params": others, "peak": peak, "from": 0},
        ]
        return torch.optim.AdamW(groups, lr=peak, weight_decay=recipe.weight_decay)

    def run(self) -> MultiTaskNetwork:
        """Train to the recipe's last epoch, then its outlines; return the averaged network."""
        self._resume()
        recipe = self.recipe
        parallel = DistributedDataParallel(self.network, broadcast_buffers=False) if self.group.size > 1 else None
        with self._progress() as progress:
            task = progress.add_task(recipe.name, total=recipe.epochs * self.loader.steps_per_epoch)
            progress.update(task, completed=self.epoch * self.loader.steps_per_epoch)
            while self.epoch < recipe.epochs:
                self._run_epoch(parallel, lambda: progress.advance(task))
            if recipe.outlining is not None:
                task = progress.add_task("outlines", total=recipe.outlining.steps)
                self._outline(lambda done: progress.update(task, completed=done))
        return self._averaged.eval()

    @property
    def _averaged(self) -> MultiTaskNetwork:
        network = self.average.module
        assert isinstance(network, MultiTaskNetwork)
        return network

    def _outline(self, tell: Callable[[int], None]) -> None:
        """The phase of the outlines; the averaged network is then the one that has blocks of their own for them."""
        trainer = OutliningTrainer(self._averaged, self.loader, self.recipe, self.work, self.group)
        self.average.module = trainer.run(tell)
        if self.group.leads:
            look = self._look(self.validation, judged_rows(self.validation))
            record(self.work / "outlined.csv", "outlined", validation_figures(look, self.validation))

    def _progress(self) -> Progress:
        visible = self.group.leads and sys.stderr.isatty()
        return Progress(console=Console(stderr=True), disable=not visible)

    def _run_epoch(self, parallel: DistributedDataParallel | None, advance: Callable[[], None]) -> None:
        started, self.loader.waited = time.monotonic(), 0.0
        if self.epoch == self.recipe.closer_from:
            self.loader.boxes = self._look(self.training).closer().boxes
        first = self.epoch * self.loader.steps_per_epoch
        steps = range(first, first + self.loader.steps_per_epoch)
        batches = self.loader.ahead(steps, self.micros)
        losses = []
        for step in steps:
            losses.append(self._step([next(batches) for _ in self.micros], step, parallel))
            advance()
        self.epoch += 1
        seconds = time.monotonic() - started
        loss = torch.tensor(float(np.mean(losses)), device=self.group.device)
        self.group.average([loss])
        if self.group.leads:
            figures = {"epoch": self.epoch, "loss": float(loss), "seconds": seconds}
            figures["loader_share"] = self.loader.waited / seconds
            look = self._look(self.validation, judged_rows(self.validation))
            record(self.work / "log.csv", "epoch", figures | validation_figures(look, self.validation))
            checkpoint.save(self.work / checkpoint.NAME, self.recipe, self._state())
        self.group.wait()

    def logits_of(self, samples: list[Sample]) -> NDArray[np.float32]:
        """What the averaged network says of other radiographs, (N, outputs) in the order of `outputs`."""
        data = TrainingSet.of(samples, self.outputs, self.recipe.prepared_size, self.work / "cache")
        logits: NDArray[np.float32] = self._look(data).abnormality(np.arange(len(samples))).numpy()
        return logits

    def _look(self, data: TrainingSet, rows: NDArray[np.int64] | None = None) -> Look:
        """The averaged network before images, some or all of them as closely as it has come to look."""
        look = Look.at_whole(self._averaged, data.images, self.precision, self.group.device)
        return look if self.loader.boxes is None else look.closer(rows)

    def _step(self, batches: list[Batch], step: int, parallel: DistributedDataParallel | None) -> float:
        """One update of the weights from this process's micro-batches and those of the others."""
        self._schedule(step / self.loader.steps_per_epoch)
        self._to_train()
        self.optimizer.zero_grad(set_to_none=True)
        self.statistics.start()
        total = 0.0
        for number, batch in enumerate(batches):
            self.statistics.begin()
            last = number == len(batches) - 1
            with parallel.no_sync() if parallel and not last else nullcontext():
                total += self._backward(batch, parallel or self.network, len(batches))
            self.statistics.end()
        self.statistics.average(self.group)
        update(self.scaler, self.optimizer, self.network.parameters())
        self.average.update_parameters(self.network)
        return total

    def _to_train(self) -> None:
        self.network.train()
        if self.recipe.frozen_norms:
            self.network.encoder.eval()

    def _backward(self, batch: Batch, network: nn.Module, micros: int) -> float:
        torch.manual_seed(batch.seed)  # dropout's
        images = batch.images.to(self.group.device, memory_format=torch.channels_last, non_blocking=True)
        with self.precision.autocast():
            outputs = network(images, decoded=len(batch.masks))
        loss: Tensor = self.objective(outputs, batch.masks, batch.rows) / micros
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's own
        return float(loss.detach())

    def _schedule(self, progress: float) -> None:
        """One epoch of warm-up, then a cosine down to a hundredth; nothing before a group's turn."""
        share = cosine(min(progress / self.recipe.epochs, 1))
        for group in self.optimizer.param_groups:
            waiting = progress < group["from"]
            group["lr"] = 0.0 if waiting else group["peak"] * share * min(progress - group["from"] + 0.02, 1)

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "outputs": list(self.outputs),
            "boxes": None if self.loader.boxes is None else torch.from_numpy(self.loader.boxes),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _resume(self) -> None:
        state = checkpoint.load(self.work / checkpoint.NAME, self.recipe)
        if state is None:
            return
        if tuple(state["outputs"]) != self.outputs:
            raise DataError(f"{self.work} holds a run on data with other labels: name another work folder")
        self.epoch = state["epoch"]
        self.loader.boxes = None if state["boxes"] is None else state["boxes"].numpy()
        for name in ("network", "average", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(state[name])


def _freeze(encoder: nn.Module, blocks: int) -> None:
    """Keep the stem and the first blocks as they are."""
    assert isinstance(encoder, EfficientNetLite0Encoder)
    for module in (encoder.stem, *encoder.blocks[:blocks]):
        module.requires_grad_(requires_grad=False)


def _freeze_norms(encoder: nn.Module) -> None:
    """Keep the scales and shifts of batch normalization, whose statistics stand still as well."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(requires_grad=False)
