"""One job in one child process, with a deadline: whatever happens in there happens to that job alone.

Each worker is a pebble pool of one process. A shared pool would fail an innocent neighbour's job when a child dies
within its first moments, and one that is killed while it sends a large result never serves again; so results travel by
file, and a pool that does not answer is replaced.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool
from pebble.pool import base_pool, process

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.steady import measure_by_monotonic_clock
from cxr_triage.model.errors import TriageError, is_machine_fault

Result = TypeVar("Result")

#: Beyond its deadline a child is told to end and, three seconds later, killed; this long after it, pebble is not
#: believed any more.
DEADLINE_GRACE_SECONDS: Final = 15.0
#: A pool whose child dies within its first moments breaks, and may do so just before it takes notice of a job: nobody
#: answers for that one then. One that it knows is answered for within this time.
BROKEN_GRACE_SECONDS: Final = 1.0
#: What is said of an image whose file is not there.
MISSING: Final = "missing"
#: Time given to a pool's threads to end.
STOP_SECONDS: Final = 5.0

log = get_logger(__name__)
measure_by_monotonic_clock(base_pool, process)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """How a job failed."""

    #: A stable word: "deadline", "killed", "missing", "panic", or the name of an exception's class.
    error_class: str
    #: One sentence for a person, without patient data.
    explanation: str
    #: Whether the machine is to blame: the job itself may be fine, and trying again later may do.
    of_machine: bool = False
    #: Whether the next job would meet it too, whatever its file.
    of_all_jobs: bool = False


class Worker(Generic[Result]):
    """A child process that runs one job at a time, and is replaced when it dies."""

    def __init__(self, *, folder: Path, deadline_seconds: float, prepare: Callable[[], None]) -> None:
        """Describe the worker; its process starts with the first job.

        Args:
            folder: of results on their way, this process' own.
            deadline_seconds: longest time for one job.
            prepare: called first in each new process; picklable.
        """
        #: Of results on their way.
        self.folder = folder
        self._deadline_seconds = deadline_seconds
        self._prepare = prepare
        self._pool: ProcessPool | None = None

    def start(self, job: Callable[[Path], Result], path: Path, *, when_done: Callable[[], None]) -> "Job[Result]":
        """Run `job(path)` in the child.

        Args:
            job: picklable; so is what it returns.
            path: its argument.
            when_done: called from another thread.

        Returns:
            The job; where the machine does not let it start, one that has failed already.
        """
        try:
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".result")
            os.close(handle)
            pool = self._live_pool()
            future = pool.schedule(_run, args=(job, path, Path(name)), timeout=self._deadline_seconds)
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread, or a pool that could not start its child
            log.exception("job not started", exc_info=error)
            self.replace()
            return Job(_done(_not_started(error)), self.folder / "none", give_up_at=0, is_broken=lambda: False)
        future.add_done_callback(lambda _: when_done())
        patience = self._deadline_seconds + DEADLINE_GRACE_SECONDS
        give_up_at = time.monotonic() + patience
        return Job(future, Path(name), give_up_at=give_up_at, is_broken=lambda: not pool.active)

    def replace(self) -> None:
        """End the child and whatever it does; the next job gets a new one."""
        if self._pool is not None:
            _stop(self._pool)
            with contextlib.suppress(TimeoutError):
                self._pool.join(timeout=STOP_SECONDS)
            self._pool = None

    def _live_pool(self) -> ProcessPool:
        if self._pool is not None and not self._pool.active:
            self.replace()
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPool(max_workers=1, initializer=_prepare, initargs=[self._prepare], context=context)
        return self._pool


class Job(Generic[Result]):
    """A job on its way."""

    def __init__(
        self, future: "Future[Fault | None]", result: Path, *, give_up_at: float, is_broken: Callable[[], bool]
    ) -> None:
        self._future = future
        self._result = result
        self._give_up_at = give_up_at
        self._is_broken = is_broken
        #: Since when the pool has been seen broken, monotonic seconds.
        self._broken_since: float | None = None

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._future.done() or self.stuck

    @property
    def stuck(self) -> bool:
        """Whether neither the deadline nor the end of its pool ended it: its worker must be replaced."""
        return not self._future.done() and (self._is_late or self._is_orphaned)

    def outcome(self) -> Result | Fault:
        """What the job returned, or how it failed. May be asked again until `forget`."""
        fault = self._fault()
        return self._read_back() if fault is None else fault

    def forget(self) -> None:
        """Remove the result's file; what a broken disk keeps goes with the folder."""
        with contextlib.suppress(OSError):
            self._result.unlink(missing_ok=True)

    @property
    def _is_late(self) -> bool:
        return time.monotonic() > self._give_up_at

    @property
    def _is_orphaned(self) -> bool:
        if self._broken_since is None and self._is_broken():
            self._broken_since = time.monotonic()
        return self._broken_since is not None and time.monotonic() > self._broken_since + BROKEN_GRACE_SECONDS

    def _fault(self) -> Fault | None:
        if self.stuck:
            return _deadline_passed() if self._is_late else _ended_at_once()
        try:
            return self._future.result(timeout=0)
        except TimeoutError:
            return _deadline_passed()
        except ProcessExpired as error:
            return _killed(error.exitcode)
        except (CancelledError, RuntimeError) as error:  # BrokenProcessPool
            if is_machine_fault(error.__cause__):
                return _not_started(error)
            return _ended_at_once()

    def _read_back(self) -> Result | Fault:
        try:
            result: Result = pickle.loads(self._result.read_bytes())  # noqa: S301 - by our own child, in our own folder
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            return _by_machine(error, "The result of the image could not be read back", of_all_jobs=True)
        return result


def _stop(pool: ProcessPool) -> None:
    stop: Callable[[], None] = pool.stop
    stop()


def _done(fault: Fault) -> "Future[Fault | None]":
    future: Future[Fault | None] = Future()
    future.set_result(fault)
    return future


def _not_started(error: BaseException) -> Fault:
    cause = error if isinstance(error, OSError) or error.__cause__ is None else error.__cause__
    return _by_machine(cause, "The process that reads the image could not be started", of_all_jobs=True)


def _by_machine(error: BaseException, what: str, *, of_all_jobs: bool = False) -> Fault:
    why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
    return Fault(
        error_class=type(error).__name__,
        explanation=f"{what}: {why}.",
        of_machine=True,
        of_all_jobs=of_all_jobs,
    )


def _deadline_passed() -> Fault:
    return Fault(
        error_class="deadline", explanation="The image took longer than `deadline_seconds` of its role allows."
    )


def _ended_at_once() -> Fault:
    """Say what became of a job whose child died before pebble saw it begin."""
    return Fault(error_class="killed", explanation="The process that read the image ended at once.")


def _killed(exit_code: int | None) -> Fault:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"signal {-exit_code}"
        ended = f"was ended by {name}"
    else:
        ended = f"ended by itself with status {exit_code}"
    return Fault(error_class="killed", explanation=f"The process that read the image {ended}.")


def _prepare(prepare: Callable[[], None]) -> None:
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    prepare()


def _end_with_parent() -> None:
    """A killed parent leaves no child behind, which would hold the network's memory for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(job: Callable[[Path], Any], path: Path, result: Path) -> Fault | None:
    """In the child: run the job, leave its result in a file, say how it failed."""
    outcome = _attempt(job, path)
    if isinstance(outcome, Fault):
        return outcome
    try:
        result.write_bytes(outcome)
    except OSError as error:
        log.warning("result not written", exc_info=True)
        return _by_machine(error, "The result of the image could not be written", of_all_jobs=True)
    return None


def _attempt(job: Callable[[Path], Any], path: Path) -> bytes | Fault:
    try:
        return pickle.dumps(job(path), protocol=pickle.HIGHEST_PROTOCOL)
    except TriageError as error:
        return Fault(error_class=type(error).__name__, explanation=str(error))
    except OSError as error:
        log.warning("job raised", exc_info=True)
        return _of_the_disk(error, path)
    except Exception as error:
        # The attempt failed, whatever the codec or the network raised; its words may quote the image's header.
        log.warning("job raised", exc_info=True)
        return Fault(error_class=type(error).__name__, explanation=f"Reading the image raised {_name(error)}.")
    except BaseException as error:  # a panic of a codec in Rust is no Exception, and costs this attempt all the same
        log.warning("job panicked", exc_info=True)
        return Fault(error_class="panic", explanation=f"Reading the image raised {_name(error)}.")


def _of_the_disk(error: OSError, path: Path) -> Fault:
    if is_machine_fault(error):
        return _by_machine(error, "The machine did not let the image be read")
    if not path.parent.is_dir():
        return _by_machine(error, "The folder of the image is not there, as before a disk is mounted")
    if not path.exists():
        return Fault(error_class=MISSING, explanation="Its file is missing from the inbox: restore it, then replay it.")
    return Fault(error_class=type(error).__name__, explanation=f"Reading the image raised {_name(error)}.")


def _name(error: BaseException) -> str:
    """Class and place of an error, without its words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" in {Path(trace.tb_frame.f_code.co_filename).name} line {trace.tb_lineno}"
    return f"{type(error).__name__}{place}"
