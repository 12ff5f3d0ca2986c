"""What one training step of a recipe costs: arithmetic, memory, time, and the loader's share of it.

    .venv/bin/python benchmarks/training_step.py --recipe paper

On drawn images, so that it needs no data. Arithmetic and memory hold for any device; the time is this machine's.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cxr_triage.training.data import NIH_LABELS, read_samples
from cxr_triage.training.distributed import joined
from cxr_triage.training.division import by_hash
from cxr_triage.training.recipes import RECIPES
from cxr_triage.training.train import Trainer

#: Drawn radiographs per source, enough to fill a micro-batch of any recipe.
DRAWN: Final = 60
#: Steps that are timed, after one that is not.
TIMED: Final = 3
GIB: Final = 2**30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="small")
    parser.add_argument("--device", default="auto")
    choice = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, joined(choice.device) as group:
        samples = read_samples(_drawn(Path(folder) / "data"))
        trainer = Trainer(RECIPES[choice.recipe], by_hash(samples), Path(folder), group)
        rows = _measured(trainer)
    sys.stdout.write("".join(f"| {name} | {value} |\n" for name, value in [("figure", "value"), ("---", "---"), *rows]))


def _measured(trainer: Trainer) -> list[tuple[str, str]]:
    recipe = trainer.recipe
    batch = trainer.loader.batch(0, 0)
    images = len(batch.images)
    # The counter takes the gradients of grouped convolutions for those of full ones: they are twice the forward pass.
    with FlopCounterMode(display=False) as arithmetic, torch.no_grad():
        trainer.network(batch.images.to(trainer.group.device), decoded=len(batch.masks))
    saved = _Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda kept: kept):
        trainer._step([batch], 0, None)  # noqa: SLF001 - the step itself, without the loop around it
    started, trainer.loader.waited = time.monotonic(), 0.0
    for step, ahead in enumerate(trainer.loader.ahead(range(1, 1 + TIMED), (0,)), 1):
        trainer._step([ahead], step, None)  # noqa: SLF001
    seconds = time.monotonic() - started
    started_alone = time.monotonic()
    for step in range(TIMED):
        trainer.loader.batch(step, 0)
    alone = time.monotonic() - started_alone
    weights = sum(parameter.numel() for parameter in trainer.network.parameters())
    return [
        ("recipe", f"{recipe.name}: {recipe.encoder}, {recipe.input_size} px, {images} images a micro-batch"),
        ("device", f"{trainer.group.device}, activations {trainer.precision.activations or torch.float32}"),
        ("arithmetic, forward and backward", f"{3 * arithmetic.get_total_flops() / images / 1e9:.1f} GFLOP an image"),
        ("kept for the backward pass", f"{saved.bytes / GIB:.2f} GiB a micro-batch"),
        ("weights, gradients, optimizer, average", f"{weights * 4 * 5 / GIB:.2f} GiB ({weights / 1e6:.1f} M weights)"),
        ("speed", f"{images * TIMED / seconds:.1f} images/s"),
        ("loader alone, one thread", f"{images * TIMED / alone:.0f} images/s"),
        ("loader's share of a step", f"{trainer.loader.waited / seconds:.1%}"),
    ]


class _Saved:
    """Counts the storages that autograd keeps for the backward pass, each once."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.bytes = 0

    def keep(self, tensor: Tensor) -> Tensor:
        """Called by autograd for each tensor that it keeps."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _drawn(folder: Path) -> Path:
    """A data folder of noise: what a step costs does not depend on what is in the images."""
    folder.mkdir()
    described = ("id", "path", "source", "patient", "sex", "age", "view", "mask", "ctr", "reference")
    generator = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as lines:
        table = csv.DictWriter(lines, (*described, "no_finding", *NIH_LABELS), restval="")
        table.writeheader()
        for source in ("nih", "kermany", "wingspan"):
            for number in range(DRAWN):
                name = f"{source}{number}.png"
                Image.fromarray(generator.integers(0, 255, (512, 512), dtype=np.uint8)).save(folder / name)
                row = {"id": name, "path": name, "source": source, "patient": str(number)}
                table.writerow(row | _known(folder, source, name, number % 2))
    return folder


def _known(folder: Path, source: str, name: str, sick: int) -> dict[str, object]:
    """What a source says of its images."""
    match source:
        case "nih":
            return dict.fromkeys(("no_finding", *NIH_LABELS), sick)
        case "kermany":
            return {"no_finding": 1 - sick, "Pneumonia": sick}
    return {"mask": _mask(folder, name)}


def _mask(folder: Path, name: str) -> str:
    bits = np.zeros((512, 512), dtype=np.uint8)
    bits[100:400, 300:450], bits[100:400, 60:210], bits[250:400, 200:350] = 1, 2, 4
    Image.fromarray(bits).save(folder / f"mask-{name}")
    return f"mask-{name}"


if __name__ == "__main__":
    main()
