"""The children's side of the inference role: the only processes that hold codecs and torch."""

import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from cxr_triage.daemon.logs import configure_logs
from cxr_triage.daemon.pipeline import score_file
from cxr_triage.daemon.roles import INFER
from cxr_triage.daemon.settings import LogSettings
from cxr_triage.model.prediction import Prediction, Refusal

Scored = Prediction | Refusal
#: Reads one file.
Score = Callable[[Path], Scored]


def load_scorer(bundle: Path | None, device: str) -> Score:
    """In the scoring child: load the network, which the parent never sees.

    Raises:
        BundleError: the bundle is missing, damaged or not one that this version reads.
    """
    from cxr_triage.model.predictor import Predictor  # noqa: PLC0415 - torch belongs in the child alone

    return partial(score_file, predict=Predictor.load(bundle, device).predict)


class _Child:
    """What one scoring child keeps between jobs."""

    load: Callable[[], Score]

    @cached_property
    def score(self) -> Score:
        """The loaded network."""
        return self.load()


#: Of this process; empty in the parent.
_CHILD: Final = _Child()


def prepare_child(logs: LogSettings | None) -> None:
    """Log as the parent does."""
    if logs is not None:
        configure_logs(logs, role=INFER)


def prepare_scorer(logs: LogSettings | None, load: Callable[[], Score], workers: int) -> None:
    """Keep `load` for the first job, and take a fair share of the cores."""
    prepare_child(logs)
    # Read by OpenMP when torch is imported: workers that each take every core only wait for one another.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
    _CHILD.load = load


def score(path: Path) -> Scored:
    """Read one image."""
    return _CHILD.score(path)


def warm_up(_: Path) -> bool:
    """Load the network before the first image comes; raises what is wrong with it."""
    return callable(_CHILD.score)
