"""Several processes train the network that one process would have trained."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from cxr_triage.model.network import MultiTaskNetwork
from cxr_triage.training.data import read_samples
from cxr_triage.training.distributed import Group
from cxr_triage.training.division import by_hash
from cxr_triage.training.outlining import with_own_blocks
from cxr_triage.training.recipes import RECIPES
from cxr_triage.training.train import Trainer
from miniature import miniature_folder

#: What each process runs: two micro-batches a step, one for each.
PROCESS: Final = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from cxr_triage.training.data import read_samples
from cxr_triage.training.distributed import joined
from cxr_triage.training.division import by_hash
from cxr_triage.training.recipes import RECIPES
from cxr_triage.training.train import Trainer
data, work = map(Path, sys.argv[1:])
recipe = replace(RECIPES["smoke"], micro_batches=2)
torch.set_num_threads(1)
with joined("cpu") as group:
    assert group.size == 2
    network = Trainer(recipe, by_hash(read_samples(data)), work, group).run()
    torch.save(network.state_dict(), work / f"rank{group.rank}.pt")
"""


def test_two_processes_train_what_one_process_trains_that_accumulates(tmp_path: Path) -> None:
    """Two gloo processes under torchrun, against one process that takes the same two micro-batches in turn."""
    data = miniature_folder(tmp_path / "data", patients=32)
    works = [tmp_path / name for name in ("together", "alone")]
    for work in works:
        work.mkdir()
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, str(script), str(data), str(works[0])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert result.returncode == 0, result.stderr
    recipe = replace(RECIPES["smoke"], micro_batches=2)
    trainer = Trainer(recipe, by_hash(read_samples(data)), works[1], Group(0, 1, torch.device("cpu")))
    untrained = trainer.average.module
    assert isinstance(untrained, MultiTaskNetwork)
    torch.manual_seed(recipe.seed)
    start = with_own_blocks(untrained).state_dict()
    alone = trainer.run().state_dict()
    first, second = (torch.load(works[0] / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    moved = distance(alone, start)
    assert moved > 0.1
    assert distance(first, alone) < 0.02 * moved


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Euclidean distance of two networks' weights and statistics."""
    floating = [name for name in one if one[name].is_floating_point()]
    return math.sqrt(sum(float((one[name] - other[name]).square().sum()) for name in floating))
