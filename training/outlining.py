"""The last phase of a training: outlines alone, by deeper blocks of their own that start as copies of the encoder's.

Encoder and heads stay as they are; docs/decisions/0020-outlines-have-blocks-of-their-own.md.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from cxr_triage.model.network import EfficientNetLite0Outlining, MultiTaskNetwork
from cxr_triage.training import checkpoint
from cxr_triage.training.distributed import Group
from cxr_triage.training.loader import Batch, Loader
from cxr_triage.training.losses import segmentation_loss
from cxr_triage.training.optimization import averaged, cosine, update
from cxr_triage.training.precision import Precision
from cxr_triage.training.recipes import Outlining, Recipe
from cxr_triage.training.run_log import record

#: What a run needs to go on.
PARTS: Final = ("learning", "average", "optimizer", "scaler")
#: Steps over which the learning rate rises.
WARM_UP: Final = 20
#: Steps from one checkpoint to the next.
SAVED: Final = 50


def with_own_blocks(network: MultiTaskNetwork) -> MultiTaskNetwork:
    """The same network, whose outlines have blocks of their own; those that nothing fits start from chance."""
    split = MultiTaskNetwork(replace(network.shape, own_outlining=True))
    known, state = network.state_dict(), split.state_dict()
    for name, value in state.items():
        source = known.get(_source_of(name))
        if source is not None and source.shape == value.shape:
            value.copy_(source)
    return split


def _source_of(name: str) -> str:
    """The tensor of the network before that one of the new network starts from."""
    prefix, _, rest = name.partition("outlining.blocks.")
    if prefix or not rest:
        return name
    index, _, tensor = rest.partition(".")
    return f"encoder.blocks.{EfficientNetLite0Outlining.FIRST_BLOCK + int(index)}.{tensor}"


class OutliningTrainer:
    """Trains the outlines of a network that is trained for the rest; a checkpoint from which `run` goes on.

    Every process of several does the same: it is minutes on a CPU, and less on a GPU.
    """

    def __init__(self, network: MultiTaskNetwork, loader: Loader, recipe: Recipe, work: Path, group: Group) -> None:
        """Split the network.

        Args:
            network: trained on all tasks.
            loader: of the same training, looking as closely as it came to.
            recipe: with this phase.
            work: folder of the checkpoint.
            group: the processes that train together.
        """
        assert recipe.outlining is not None
        self.phase: Outlining = recipe.outlining
        self.loader, self.recipe, self.group = loader, recipe, group
        self._path, self._log = work / "outlining.pt", work / "outlining.csv"
        self._start = _digest(network, self.phase)
        self._precision = Precision.of(group.device)
        torch.manual_seed(recipe.seed)
        self.network = with_own_blocks(network).to(group.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        assert self.network.outlining is not None
        #: What learns: the blocks and the decoder. The rest stays as it is to the last bit, averages included.
        self.learning = nn.ModuleList([self.network.outlining, self.network.decoder])
        self.network.requires_grad_(requires_grad=False)
        self.learning.requires_grad_(requires_grad=True)
        self.average = averaged(self.learning, recipe.ema_decay)
        self.optimizer = torch.optim.AdamW(
            self.learning.parameters(), lr=self.phase.learning_rate, weight_decay=recipe.weight_decay
        )
        self.scaler = self._precision.scaler()
        self.step = 0

    def run(self, tell: Callable[[int], None]) -> MultiTaskNetwork:
        """Train to the phase's last step, telling after each how many are done, and return the averaged network."""
        self._resume()
        steps = range(self.step, self.phase.steps)
        losses: list[float] = []
        for batch in self.loader.outlined_ahead(steps, self.phase.images):
            losses.append(self._step(batch))
            self.step += 1
            tell(self.step)
            if self.step % SAVED == 0 or self.step == self.phase.steps:
                self._save(losses)
                losses.clear()
        self.learning.load_state_dict(self.average.module.state_dict())
        return self.network.eval()

    def _save(self, losses: list[float]) -> None:
        if self.group.leads:
            checkpoint.save(self._path, self.recipe, self._state())
            record(self._log, "outlining", {"step": self.step, "loss": sum(losses) / len(losses)})

    def _step(self, batch: Batch) -> float:
        self._schedule()
        # The blocks keep the batch normalization statistics that pretraining left; the decoder's are its own.
        self.network.eval()
        self.network.decoder.train()
        self.optimizer.zero_grad(set_to_none=True)
        images = batch.images.to(self.group.device, memory_format=torch.channels_last, non_blocking=True)
        with self._precision.autocast():
            logits = self.network.outlines(images)
        loss: Tensor = segmentation_loss(logits, batch.masks.to(self.group.device))
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch's own
        update(self.scaler, self.optimizer, self.learning.parameters())
        self.average.update_parameters(self.learning)
        return float(loss.detach())

    def _schedule(self) -> None:
        """A short warm-up, and a cosine down to a hundredth."""
        share = cosine(self.step / self.phase.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.phase.learning_rate * share * min((self.step + 1) / WARM_UP, 1)

    def _state(self) -> dict[str, object]:
        parts = {name: getattr(self, name).state_dict() for name in PARTS}
        return {"start": self._start, "step": self.step, **parts}

    def _resume(self) -> None:
        """Go on from the checkpoint, if it is of this phase and of the network that it starts from; else anew."""
        state = checkpoint.load(self._path, self.recipe)
        if state is not None and state["start"] == self._start:
            self.step = state["step"]
            for name in PARTS:
                getattr(self, name).load_state_dict(state[name])
        self.group.wait()  # before the first of them writes it again
        if self.group.leads and self.step == 0:
            self._log.unlink(missing_ok=True)


def _digest(network: MultiTaskNetwork, phase: Outlining) -> str:
    """What a phase starts from, and what it is, in a word."""
    digest = hashlib.sha256(repr(phase).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
