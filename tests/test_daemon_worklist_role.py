"""The role on a real ledger: both models show one order for one version, while radiographs arrive and are scored."""

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from builders import finding
from committing import Site
from cxr_triage.daemon.worklist.mwl import WorklistRole
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from peers import findscu, free_port, running
from steps import Steps

PLACE = re.compile(r"Rank (\d+) of list version (\d+\.\d+)\.")
STUDIES = 12


@pytest.fixture
def port(tmp_path: Path, database_url: str, database: Database) -> Iterator[int]:
    """Run the role; gives its port."""
    port = free_port()
    site = Site(folder=tmp_path / "site", url=database_url, database=database)
    settings = site.settings(free_port(), worklist={"enabled": True, "port": port, "study_root": True})
    settings.prepare_folders()
    with running(WorklistRole(settings).run):
        yield port


def worklist(port: int, folder: Path) -> list[tuple[str, str]]:
    """Ask the modality worklist; gives each study with the words of its place, as they came."""
    step = "ScheduledProcedureStepSequence[0].CommentsOnTheScheduledProcedureStep"
    _, answers = findscu(port, "StudyInstanceUID", step, folder=folder)
    steps = ((each, each.ScheduledProcedureStepSequence[0]) for each in answers)
    return [(each.StudyInstanceUID, step.CommentsOnTheScheduledProcedureStep) for each, step in steps]


def studies(port: int, folder: Path) -> list[tuple[str, str]]:
    """Ask Study Root; gives the same."""
    keys = ("QueryRetrieveLevel=STUDY", "StudyInstanceUID", "0032,4000")
    _, answers = findscu(port, *keys, folder=folder, options=("-S",))
    return [(each.StudyInstanceUID, each.StudyComments) for each in answers]


def test_equal_versions_are_equal_orders(port: int, steps: Steps, tmp_path: Path) -> None:
    """Whichever model is asked, whenever; ranks count from one; all at the end agree with the ledger."""
    steps.clock.now = utc_now()

    def arrive() -> None:
        for number in range(STUDIES):
            steps.score(f"1.2.{number}", *([finding("Pneumothorax", 0.5 + number / 50)] if number % 3 else []))

    seen: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    arriving = threading.Thread(target=arrive)
    arriving.start()
    for number in count():
        is_last = not arriving.is_alive()
        for ask in (worklist, studies):
            answers = ask(port, tmp_path / f"{ask.__name__}-{number}")
            places = [PLACE.fullmatch(words) for _, words in answers]
            assert [int(place.group(1)) for place in places if place] == list(range(1, len(answers) + 1))
            versions = {place.group(2) for place in places if place}
            assert len(versions) <= 1
            for version in versions:
                seen[version].add(tuple(uid for uid, _ in answers))
        if is_last:
            break
    arriving.join()
    assert {version: len(orders) for version, orders in seen.items()} == dict.fromkeys(seen, 1)
    snapshot = steps.reading_list.snapshot()
    order = tuple(ranked.study.study_instance_uid for ranked in snapshot.ranked(steps.policy))
    at_last = {ask(port, tmp_path / ask.__name__)[0][1] for ask in (worklist, studies)}
    assert at_last == {f"Rank 1 of list version {snapshot.version}."}
    assert tuple(uid for uid, _ in studies(port, tmp_path / "last")) == order
