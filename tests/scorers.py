"""What scoring children do in tests: some read the image, some fail in every way that a process can."""

import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydicom import dcmread

from builders import prediction
from cxr_triage.daemon.pipeline import score_file
from cxr_triage.daemon.readers import Score, Scored
from cxr_triage.model.errors import BundleError, ConfigurationError
from cxr_triage.model.prediction import Prediction, Refusal
from cxr_triage.model.radiograph import Radiograph

#: For ever, as far as a test is concerned.
LONG_SECONDS = 600


class PanicException(BaseException):
    """What a codec in Rust raises: no Exception."""


def _sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(3)


def _sys_exit() -> None:
    sys.exit(4)


def _hang() -> None:
    time.sleep(LONG_SECONDS)


def _panic() -> None:
    raise PanicException("called `Option::unwrap()` on a `None` value for Muster^Erika")


def _out_of_memory() -> None:
    raise MemoryError


def _disk() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO), "/inbox/Muster^Erika.dcm")


def _error() -> None:
    raise ValueError("patient Muster^Erika cannot be read")


FAILURES: dict[str, Callable[[], None]] = {
    "sigkill": _sigkill,
    "segfault": _segfault,
    "exit": _exit,
    "sys_exit": _sys_exit,
    "hang": _hang,
    "panic": _panic,
    "out_of_memory": _out_of_memory,
    "disk": _disk,
    "error": _error,
}


def load() -> Score:
    """Give a scorer that does what the image's Study Description says: fail, fail once, wait, refuse, or predict."""
    return _score


def load_reader() -> Score:
    """Give the real reading of an image in front of a network that says always the same."""
    return partial(score_file, predict=_always)


def _always(_: Radiograph) -> Prediction:
    return prediction()


def load_nothing() -> Score:
    """Fail as a damaged bundle does."""
    raise BundleError("The weights do not match their SHA-256: install the bundle again.")


def load_elsewhere() -> Score:
    """Fail as a device does that is not there."""
    raise ConfigurationError("device 'cuda' is not there: use auto or cpu")


def load_and_die() -> Score:
    """Fail as a bundle does that ends the process."""
    _sigkill()
    return _score


def _score(path: Path) -> Scored:
    word = str(dcmread(path, stop_before_pixels=True).StudyDescription)
    with (path.parent / "scored.log").open("a") as log:
        log.write(f"{path.name}\n")
    if word == "wait":
        (path.parent / "waiting").touch()
        _wait_for(path.parent / "go")
    elif word.startswith("once "):
        _once(path.with_suffix(".failed"), FAILURES[word.removeprefix("once ")])
    elif word == "refuse":
        return Refusal(reason="not_frontal", explanation="The header says that this is a lateral view.")
    elif word in FAILURES:
        FAILURES[word]()
    return prediction()


def _once(marker: Path, fail: Callable[[], None]) -> None:
    if not marker.exists():
        marker.touch()
        fail()


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def own_pid(_: Path) -> int:
    """Say which process this is."""
    return os.getpid()


def nothing() -> None:
    """Prepare nothing."""


def die() -> None:
    """End the process before its first job."""
    _sigkill()
