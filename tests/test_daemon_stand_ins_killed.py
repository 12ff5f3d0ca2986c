"""Whoever makes a stand-in may be killed anywhere: the next one finds what is left to do, and doubles nothing."""

import multiprocessing
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SegmentationStorage,
)
from sqlalchemy import event
from sqlalchemy.orm import Session

from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Housekeeping
from deliveries import NEVER, Pacs
from sites import Site, courier, settle

PR, SR = GrayscaleSoftcopyPresentationStateStorage, ComprehensiveSRStorage


def test_a_kill_anywhere_loses_and_doubles_nothing(tmp_path: Path, migrated_sqlite: Path) -> None:
    """Before and after each step that reaches the disk or the database."""
    before = tmp_path / "before"
    _refused(before, migrated_sqlite)
    for step in count(1):
        folder = shutil.copytree(before, tmp_path / str(step))
        killed = _killed_at(step, folder)
        _recovered(folder)
        shutil.rmtree(folder)
        if not killed:
            break
    assert step > 15


def _refused(folder: Path, database: Path) -> None:
    """Leave a study whose SEG and SR its destination did not take."""
    folder.mkdir()
    shutil.copy(database, folder / "triage.db")
    with closing(open_database(f"sqlite:///{folder / 'triage.db'}")) as opened:
        site = Site(folder, opened)
        site.score()
        site.report_to(("pacs", "air"))
        with Pacs().serving(PR, SR) as port:
            while courier(site, "pacs", port).deliver_batch(NEVER):
                pass


def _killed_at(step: int, folder: Path) -> bool:
    """Make what is due in a process that is killed at a step; False: it had fewer."""
    process = multiprocessing.get_context("fork").Process(target=_make, args=(step, folder))
    process.start()
    process.join(60)
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0


def _make(step: int, folder: Path) -> None:
    steps = iter(range(1, 1 << 30))

    def tick(*_: object) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = _around(os.fsync, tick)
    Path.rename = _around(Path.rename, tick)  # type: ignore[method-assign]
    event.listen(Session, "before_commit", tick)
    event.listen(Session, "after_commit", tick)
    with closing(open_database(f"sqlite:///{folder / 'triage.db'}")) as opened:
        assert Site(folder, opened).maker(("pacs", "air")).decide_pending() == 2


def _around(function: Callable[..., Any], tick: Callable[[], None]) -> Callable[..., Any]:
    def ticked(*arguments: Any) -> Any:
        tick()
        done = function(*arguments)
        tick()
        return done

    return ticked


def _recovered(folder: Path) -> None:
    """Go on, as the next process does, and look at everything."""
    with closing(open_database(f"sqlite:///{folder / 'triage.db'}")) as opened:
        site = Site(folder, opened)
        told = settle(site, {"pacs": (PR, SR)})
        assert sorted(told["pacs"]) == sorted([PR, SR])
        made = Counter(each.sop_class_uid for each in site.reporting.objects())
        assert made == dict.fromkeys((SegmentationStorage, PR, Comprehensive3DSRStorage, SR), 1)
        states = Housekeeping(opened).counts().deliveries["pacs"]
        assert (states[DeliveryState.STORED], states[DeliveryState.NOT_TAKEN], sum(states.values())) == (2, 2, 4)
        assert all(site.outbox.absolute(each.path).is_file() for each in site.reporting.objects())
