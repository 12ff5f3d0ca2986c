"""Whoever looks for work goes on, whatever comes."""

import threading
from datetime import timedelta

import pytest

from cxr_triage.daemon.lookout import Lookout
from cxr_triage.model.errors import StorageError


class Troubled(Lookout):
    """Raises what it is given, then finds no work and stops."""

    def __init__(self, *troubles: Exception, poll: timedelta = timedelta(0)) -> None:
        super().__init__(poll=poll, receiver="WATCHER")
        self.troubles = list(troubles)

    def look(self, stop: threading.Event) -> bool:
        """See `Lookout`."""
        if self.troubles:
            raise self.troubles.pop()
        stop.set()
        return False


def test_it_goes_on_whatever_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    """A thread that ends silently tells nobody any more; what an error says is not logged: it may name a patient."""
    troubled = Troubled(StorageError("away"), ValueError("Grün^Eva"))
    troubled.run(threading.Event())
    assert troubled.troubles == []
    assert "Grün" not in "".join(capsys.readouterr())


def test_it_looks_at_once_when_it_is_woken() -> None:
    """Not only after its time."""

    class Patient(Troubled):
        def look(self, stop: threading.Event) -> bool:
            looked.release()
            return super().look(stop) if stop.is_set() else False

    looked, stop = threading.Semaphore(0), threading.Event()
    patient = Patient(poll=timedelta(days=1))
    thread = threading.Thread(target=patient.run, args=[stop])
    thread.start()
    for _ in range(2):
        assert looked.acquire(timeout=60)
        patient.wake()
    stop.set()
    patient.wake()
    thread.join(60)
    assert not thread.is_alive()
