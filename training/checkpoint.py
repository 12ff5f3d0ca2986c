"""What a run needs to go on as if it had never stopped, in one file."""

from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from cxr_triage.training.data import DataError
from cxr_triage.training.recipes import Recipe

NAME: Final = "checkpoint.pt"


def save(work: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Replace the run's checkpoint; a power cut leaves the old one or the new one."""
    partial = work / f"{NAME}.partial"
    torch.save({"recipe": asdict(recipe), **state}, partial)
    partial.rename(work / NAME)


def load(work: Path, recipe: Recipe) -> dict[str, Any] | None:
    """The run's checkpoint; None where it has none yet.

    Raises:
        DataError: another recipe made it, or it cannot be read.
    """
    path = work / NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, KeyError, RuntimeError, UnpicklingError) as error:
        raise DataError(f"{path} cannot be read ({error!r}): name another work folder") from error
    made_by, wanted = state.pop("recipe"), asdict(recipe)
    # More epochs of the same recipe are a run that goes on; anything else is another run.
    differing = sorted(name for name in wanted if name != "epochs" and made_by.get(name) != wanted[name])
    if differing:
        raise DataError(f"{path} comes from another recipe ({', '.join(differing)}): name another work folder")
    return state
