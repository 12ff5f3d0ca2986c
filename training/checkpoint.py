"""What a run needs to go on as if it had never stopped, in one file."""

from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from cxr_triage.training.data import DataError
from cxr_triage.training.recipes import Recipe

NAME: Final = "checkpoint.pt"
#: What may differ between the recipe of a checkpoint and that of a run that goes on: more epochs are more of the same,
#: and what follows them starts anew where it differs.
FREE: Final = ("epochs", "outlining")


def save(path: Path, recipe: Recipe, state: dict[str, Any]) -> None:
    """Replace a checkpoint; a power cut leaves the old one or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    torch.save({"recipe": asdict(recipe), **state}, partial)
    partial.rename(path)


def load(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    """A checkpoint; None where there is none yet.

    Raises:
        DataError: another recipe made it, or it cannot be read.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, KeyError, RuntimeError, UnpicklingError) as error:
        raise DataError(f"{path} cannot be read ({error!r}): name another work folder") from error
    made_by, wanted = state.pop("recipe"), asdict(recipe)
    differing = sorted(name for name in wanted if name not in FREE and made_by.get(name) != wanted[name])
    if differing:
        raise DataError(f"{path} comes from another recipe ({', '.join(differing)}): name another work folder")
    return state
