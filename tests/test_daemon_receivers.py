"""Several receivers on one port: the supervisor, the processes, and peers that do not notice which one serves them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Barrier

import pytest
from pynetdicom import AE
from pynetdicom.association import Association

from builders import radiograph_file
from cxr_triage.daemon.dicom_client import Part10File, Peer, associated, store, verify
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.model.errors import UnreachableError
from cxr_triage.storage.database import open_database
from cxr_triage.storage.ledger import Housekeeping
from peers import PATIENCE_SECONDS, eventually, storescu
from receivers import Receivers, receivers

CAP = 3


@pytest.fixture
def capped(tmp_path: Path, sqlite_url: str) -> Iterator[Receivers]:
    """Two receivers that serve three associations together."""
    with receivers(tmp_path, sqlite_url, dicom=f"maximum_associations = {CAP}") as running:
        yield running


def _hold(stack: ExitStack, peer: Peer, count: int) -> list[Association]:
    return [stack.enter_context(associated(peer)) for _ in range(count)]


def _is_full(peer: Peer) -> bool:
    try:
        verify(peer)
    except UnreachableError as error:
        return "Local limit exceeded" in str(error)
    return False


def _holders(running: Receivers) -> list[str]:
    return [line["role"] for line in running.lines("association accepted")]


def test_the_cap_holds_over_all_receivers(capped: Receivers) -> None:
    """One association too many is refused, whoever accepts its connection, and says so as PS3.8 has it."""
    with ExitStack() as stack:
        _hold(stack, capped.peer, CAP)
        for _ in range(10):
            one_more = AE("MODALITY")
            one_more.add_requested_context(VERIFICATION)
            answer = one_more.associate(capped.peer.host, capped.port).acceptor.primitive
            assert answer is not None
            # PS3.8 9.3.4: rejected-transient, service provider (presentation related), local-limit-exceeded.
            assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    eventually(lambda: len(capped.lines("association rejected")) == 10)
    assert {line["calling_ae_title"] for line in capped.lines("association rejected")} == {"MODALITY"}
    eventually(lambda: not _is_full(capped.peer))


def test_a_burst_gets_as_many_as_there_are(capped: Receivers) -> None:
    """Of twelve senders at the same instant three are served, and nine are told to come back."""
    together, all_answered = Barrier(12), Barrier(12)

    def ask(_number: int) -> str:
        """Give the reason of the refusal, if it is one."""
        together.wait(PATIENCE_SECONDS)
        with ExitStack() as stack:
            try:
                stack.enter_context(associated(capped.peer))
            except UnreachableError as error:
                return str(error)
            finally:
                all_answered.wait(PATIENCE_SECONDS)
            return ""

    with ThreadPoolExecutor(12) as pool:
        for _ in range(3):
            refusals = [reason for reason in pool.map(ask, range(12)) if reason]
            assert len(refusals) == 12 - CAP
            assert all("Local limit exceeded" in reason for reason in refusals)
            eventually(lambda: not _is_full(capped.peer))


def test_killed_receivers_leave_their_places(capped: Receivers) -> None:
    """Their associations died with them, so the cap is whole again."""
    with ExitStack() as stack:
        held = _hold(stack, capped.peer, CAP)
        assert _is_full(capped.peer)
        capped.kill("receive-1", "receive-2")
        eventually(lambda: not any(association.is_established for association in held))
    with ExitStack() as stack:
        _hold(stack, capped.peer, CAP)
        assert _is_full(capped.peer)


def test_a_receiver_comes_back_at_once(tmp_path: Path, sqlite_url: str) -> None:
    """Under its own name; the other one is left alone."""
    with receivers(tmp_path, sqlite_url) as running:
        before = running.processes()
        running.kill("receive-2")
        verify(running.peer)
        after = running.processes()
    assert (after["receive-1"], after["receive-2"] != before["receive-2"]) == (before["receive-1"], True)
    (died,) = running.lines("role died")
    assert (died["job"], died["restart_in_seconds"]) == ("receive-2", 0)


def test_the_same_images_at_the_same_time_are_kept_once(tmp_path: Path, database_url: str) -> None:
    """Four senders push the same five images to whoever serves them: all hear success, each image is there once."""
    images = [radiograph_file(tmp_path) for _ in range(5)]
    with receivers(tmp_path, database_url) as running, ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda port: storescu(port, *images), [running.port] * 4))
        assert [each.returncode for each in sent] == [0] * 4
        assert len(list(running.inbox.rglob("*.dcm"))) == len(images)
    with closing(open_database(database_url)) as database:
        counts = Housekeeping(database).counts()
    assert (sum(counts.instances.values()), counts.other_bytes) == (len(images), 0)
    assert running.lines("image not stored") == []


def test_stopping_lets_associations_finish_on_every_receiver(tmp_path: Path, sqlite_url: str) -> None:
    """What is being sent when the service stops is stored, whichever receiver has it."""
    with receivers(tmp_path, sqlite_url, dicom="maximum_associations = 100") as running, ExitStack() as stack:
        open_ones: list[tuple[Association, Part10File]] = []
        while len(set(_holders(running))) < 2:
            file = Part10File.read(radiograph_file(tmp_path))
            open_ones.append((stack.enter_context(associated(running.peer, [file])), file))
            eventually(lambda: len(_holders(running)) == len(open_ones))
        running.supervisor.terminate()
        eventually(lambda: len(running.lines("stopping")) == 1)
        assert [store(association, file, running.peer) for association, file in open_ones] == [0] * len(open_ones)
        stack.close()
        assert running.supervisor.wait(PATIENCE_SECONDS) == 0
        assert len(list(running.inbox.rglob("*.dcm"))) == len(open_ones)
    assert sorted(line["role"] for line in running.lines("role stopped")) == ["receive-1", "receive-2"]
