"""The children's side of the inference role: the only processes that hold codecs and torch."""

import os
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Final

from cxr_triage.daemon.logs import configure_logs
from cxr_triage.daemon.pipeline import score_file
from cxr_triage.daemon.roles import INFER
from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.model.prediction import Prediction, Refusal

Scored = Prediction | Refusal
#: Reads one file.
Score = Callable[[Path], Scored]


def load_scorer(bundle: Path | None, device: str, sensitivity: float | None) -> Score:
    """In the scoring child: load the network, which the parent never sees.

    Raises:
        BundleError: the bundle is missing, damaged or not one that this version reads.
        ConfigurationError: it has no operating point of this sensitivity, or there is no such device.
    """
    from cxr_triage.model.predictor import Predictor  # noqa: PLC0415 - torch belongs in the child alone

    return partial(score_file, predict=Predictor.load(bundle, device, sensitivity).predict)


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
    # Both are read by OpenMP when torch is imported.
    os.environ["OMP_NUM_THREADS"] = str(scoring_threads(workers, os.cpu_count() or 1))
    # Who waits sleeps: spinning would keep from its core the very thread that is waited for.
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    _CHILD.load = load


def scoring_threads(workers: int, cores: int) -> int:
    """Share the cores among the workers, and leave one to the other roles.

    The threads of a network wait for one another a hundred times per image. When one of them has lost its core to
    another process, all of them wait: on two busy cores, two threads need 1 s for an image and one thread 0.1 s.
    """
    return max(1, (cores - 1) // workers)


def score(path: Path) -> Scored:
    """Read one image."""
    return _CHILD.score(path)


def warm_up(_: Path) -> bool:
    """Load the network before the first image comes; raises what is wrong with it."""
    return callable(_CHILD.score)
