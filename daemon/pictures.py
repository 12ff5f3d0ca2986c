"""The pixels of images that results draw on, read by a child: a codec may take its process down with it."""

import threading
from functools import partial
from pathlib import Path
from typing import Final

from cxr_triage.daemon.isolation import Fault, Worker
from cxr_triage.daemon.logs import configure_logs
from cxr_triage.daemon.results.picture import Picture
from cxr_triage.daemon.roles import REPORT
from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.model.errors import ResultError, UnavailableError

#: How often a job is looked at that nobody has rung for.
GLANCE_SECONDS: Final = 1.0


class Pictures:
    """Reads one picture at a time."""

    def __init__(self, *, folder: Path, deadline_seconds: float, logs: LogSettings | None) -> None:
        """Describe the reader; its process starts with the first picture.

        Args:
            folder: of results on their way, this process' own.
            deadline_seconds: longest time for one picture.
            logs: how the child logs; None: as it is.
        """
        self._worker: Worker[Picture] = Worker(
            folder=folder, deadline_seconds=deadline_seconds, prepare=partial(_prepare, logs)
        )

    def read(self, path: Path) -> Picture:
        """Read a file's pixels as displayed.

        Raises:
            UnavailableError: the machine did not let it be read: this may pass.
            ResultError: it could not be read; says why.
        """
        ended = threading.Event()
        job = self._worker.start(_read, path, when_done=ended.set)
        while not job.done:
            ended.wait(GLANCE_SECONDS)
        if job.stuck:
            self._worker.replace()
        outcome = job.outcome()
        job.forget()
        if isinstance(outcome, Fault):
            kind = UnavailableError if outcome.of_machine else ResultError
            raise kind(f"Nothing can be drawn on the image: {outcome.explanation} ({outcome.error_class})")
        return outcome

    def close(self) -> None:
        """End the child."""
        self._worker.replace()


def _read(path: Path) -> Picture:
    from cxr_triage.daemon.picturing import picture_of  # noqa: PLC0415 - codecs and torch belong in the child alone

    return picture_of(path)


def _prepare(logs: LogSettings | None) -> None:
    if logs is not None:
        configure_logs(logs, role=REPORT)
