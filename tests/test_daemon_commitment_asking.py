"""Storage commitment as SCU: against Orthanc, and against PACS that do what Orthanc does not."""

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from pynetdicom import evt
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation  # type: ignore[attr-defined]

from committing import (
    Peer,
    Site,
    all_committed,
    all_failed,
    calling,
    may,
    report_to,
    roles,
    send_report,
)
from cxr_triage.daemon.check import check
from cxr_triage.daemon.commitment.asking import Asker, Pace, verify_offer
from cxr_triage.daemon.commitment.messages import SOP_CLASS, SOP_INSTANCE, report_data_set
from cxr_triage.daemon.commitment.reports import Persistence
from cxr_triage.daemon.dicom_client import peer
from cxr_triage.daemon.status import as_dict, standing
from cxr_triage.daemon.upkeep import Upkeep
from cxr_triage.daemon.web.metrics import registry
from cxr_triage.model.errors import RefusedError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.commitment_records import NO_SUCH_OBJECT_INSTANCE, CommitmentState, Reference, Subject
from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Commitments
from cxr_triage.storage.ledger.commitments import LOST_SENDER, count_commitments
from cxr_triage.storage.result_records import ResultObject
from peers import LOOPBACK, REFUSED_CONNECTION, eventually, free_port, orthanc
from steps import SetClock

COMMITTED = {DeliveryState.COMMITTED: 2}
STORED = {DeliveryState.STORED: 2}
LEASE = timedelta(minutes=5)
#: PS3.7 Annex C.
SUCCESS, NO_SUCH_SOP_INSTANCE, NO_SUCH_EVENT_TYPE, INVALID_ARGUMENT_VALUE = 0x0000, 0x0112, 0x0113, 0x0115
NEVER = threading.Event()


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """Give a service with an empty ledger."""
    database = open_database(sqlite_url)
    yield Site(folder=tmp_path, url=sqlite_url, database=database)
    database.close()


def references(objects: list[ResultObject]) -> tuple[Reference, ...]:
    """What a request for these objects names."""
    return tuple(Reference(each.sop_class_uid, each.sop_instance_uid) for each in objects)


def test_orthanc_commits(site: Site) -> None:
    """It answers the N-ACTION, and reports on an association that it opens to our port."""
    site.report()
    with (
        orthanc(site.folder / "orthanc", modalities={"triage": ("CXRTRIAGE", LOOPBACK, site.port)}) as archive,
        roles(site.settings(archive.dicom_port)),
    ):
        eventually(lambda: site.states() == COMMITTED)
    assert site.requests()[CommitmentState.ANSWERED] >= 1


def test_orthanc_gets_again_what_it_has_lost(site: Site) -> None:
    """Objects deleted there after success: the request says so, they are sent again, and committed to."""
    objects = site.report()
    with orthanc(site.folder / "orthanc", modalities={"triage": ("CXRTRIAGE", LOOPBACK, site.port)}) as archive:
        with roles(site.settings(archive.dicom_port, commitment=False)):
            eventually(lambda: site.states() == STORED)
        for each in archive.get("/instances"):
            archive.delete(f"/instances/{each}")
        assert archive.instances() == []
        with roles(site.settings(archive.dicom_port)):
            eventually(lambda: site.states() == COMMITTED)
        assert archive.instances() == sorted(each.sop_instance_uid for each in objects)


def test_a_pacs_reports_on_the_same_association(site: Site) -> None:
    """No port of ours is needed; the PACS gets its answer before the association ends."""
    objects = site.report()
    with (
        Peer(same_association=True).serving() as pacs,
        roles(site.settings(pacs.port, deliver={"commitment_wait_seconds": 30}), receive=False),
    ):
        eventually(lambda: site.states() == COMMITTED)
        eventually(lambda: set(pacs.answers) == {SUCCESS})
    assert {each for _, asked in pacs.asked for each in asked} == set(references(objects))


def test_a_pacs_reports_late(site: Site) -> None:
    """On an association of its own, again and again: the first counts, the others are answered with success."""
    site.report()
    with Peer().serving() as pacs, roles(site.settings(pacs.port)):
        eventually(lambda: site.requests().get(CommitmentState.REQUESTED, 0) * len(STORED) > 0 and covered(pacs) == 2)
        assert site.states() == STORED
        for _ in range(2):
            assert [report_to(site.port, all_committed(*each)) for each in pacs.asked] == [SUCCESS] * len(pacs.asked)
        assert site.states() == COMMITTED


def covered(pacs: Peer) -> int:
    """How many objects a PACS was asked for."""
    return len({each for _, asked in pacs.asked for each in asked})


def asked_for_both(site: Site, pacs: Peer) -> list[tuple[str, tuple[Reference, ...]]]:
    """Wait until the PACS was asked for both objects and its answers are recorded; the requests."""
    eventually(lambda: covered(pacs) == 2 and site.requests() == {CommitmentState.REQUESTED: len(pacs.asked)})
    return list(pacs.asked)


def test_a_failure_is_sent_again(site: Site) -> None:
    """The daemon hears it on its port, and the PACS gets the object once more; then it is asked again."""
    site.report()
    with Peer().serving() as pacs, roles(site.settings(pacs.port)):
        first = asked_for_both(site, pacs)
        for each in first:
            assert report_to(site.port, all_failed(*each, NO_SUCH_OBJECT_INSTANCE)) == SUCCESS
        eventually(lambda: len(pacs.stored) == 4)
        eventually(lambda: len({r for _, asked in pacs.asked[len(first) :] for r in asked}) == 2)
        for each in pacs.asked[len(first) :]:
            assert report_to(site.port, all_committed(*each)) == SUCCESS
        eventually(lambda: site.states() == COMMITTED)
    assert {uid: pacs.stored.count(uid) for uid in pacs.stored} == dict.fromkeys(pacs.stored, 2)


def test_what_is_never_committed_to_is_dead(site: Site) -> None:
    """A person has to look, and reads why."""
    site.report()
    settings = {"commitment_maximum_failures": 2}
    with Peer().serving() as pacs, roles(site.settings(pacs.port, deliver=settings)):
        eventually(lambda: fail_all(site, pacs) and site.states() == {DeliveryState.DEAD: 2})
    assert {uid: pacs.stored.count(uid) for uid in pacs.stored} == dict.fromkeys(pacs.stored, 2)


def fail_all(site: Site, pacs: Peer) -> bool:
    """Report whatever was asked as failed, also what was reported before."""
    return all(report_to(site.port, all_failed(*each, NO_SUCH_OBJECT_INSTANCE)) == SUCCESS for each in list(pacs.asked))


@pytest.mark.parametrize("scp_role", [True, False])
def test_a_pacs_without_role_selection_is_heard(site: Site, scp_role: bool) -> None:
    """PS3.7 D.3.3.4 wants it; where it is missing, the transaction UID still says who speaks of what."""
    site.report()
    with Peer().serving() as pacs, roles(site.settings(pacs.port)):
        for each in asked_for_both(site, pacs):
            assert report_to(site.port, all_committed(*each), scp_role=scp_role) == SUCCESS
        assert site.states() == COMMITTED


def test_reports_of_what_was_not_asked_are_refused(site: Site) -> None:
    """An unknown transaction, objects that it is not about, another SOP instance, another event type."""
    site.report()
    with Peer().serving() as pacs, roles(site.settings(pacs.port)):
        (uid, asked), *_ = asked_for_both(site, pacs)
        stranger = Reference(SOP_CLASS, "1.2.3")
        assert report_to(site.port, all_committed("1.2.3", asked)) == INVALID_ARGUMENT_VALUE
        assert report_to(site.port, all_committed(uid, [*asked, stranger])) == INVALID_ARGUMENT_VALUE
        assert report_to(site.port, all_committed(uid, [])) == INVALID_ARGUMENT_VALUE
        with calling(site.port, "PACS", scp_role=True) as association:
            assert send_report(association, all_committed(uid, asked), instance="1.2.3") == NO_SUCH_SOP_INSTANCE
            _, event = report_data_set(all_committed(uid, asked))
            answer, _ = association.send_n_event_report(event, 3, SOP_CLASS, SOP_INSTANCE)
            assert answer.Status == NO_SUCH_EVENT_TYPE
            answer, _ = association.send_n_event_report(None, 1, SOP_CLASS, SOP_INSTANCE)
            assert answer.Status == INVALID_ARGUMENT_VALUE
        assert site.states() == STORED


def test_a_stranger_may_not_report(site: Site) -> None:
    """He is not offered storage commitment at all; where modalities may ask, he may do no more than that."""
    site.report()
    modality = {"ae_title": "XRAY1", "host": LOOPBACK, "port": free_port()}
    serving = {"dicom": {"commitment": True, "commitment_destination": "pacs"}, "modality": [modality]}
    with Peer().serving() as pacs:
        with roles(site.settings(pacs.port)):
            (uid, asked), *_ = asked_for_both(site, pacs)
            with calling(site.port, "STRANGER", scp_role=True) as association:
                assert not may(association, "scp")
        with roles(site.settings(pacs.port, **serving), deliver=False):  # type: ignore[arg-type]
            with calling(site.port, "STRANGER", scp_role=True) as association:
                assert not may(association, "scp")
            report = all_committed(uid, asked)
            assert report_to(site.port, report, ae_title="STRANGER", scp_role=False) == INVALID_ARGUMENT_VALUE
            assert report_to(site.port, report, ae_title="XRAY1", scp_role=False) == INVALID_ARGUMENT_VALUE
    assert site.states() == STORED


def test_a_pacs_that_may_not_send_images_may_report(site: Site) -> None:
    """`dicom.allowed_ae_titles` is about images: a destination that is asked needs not stand there."""
    site.report()
    settings = {"dicom": {"allowed_ae_titles": ["XRAY1"]}}
    with Peer().serving() as pacs, roles(site.settings(pacs.port, **settings)):  # type: ignore[arg-type]
        for each in asked_for_both(site, pacs):
            assert report_to(site.port, all_committed(*each)) == SUCCESS
        assert site.states() == COMMITTED
        assert offered(site, "PACS") == {SOP_CLASS}
        assert offered(site, "XRAY1") == {DigitalXRayImageStorageForPresentation}


def offered(site: Site, ae_title: str) -> set[str]:
    """Which of storage commitment and storage a caller gets."""
    from pynetdicom import AE, build_context  # noqa: PLC0415

    contexts = [build_context(uid) for uid in (SOP_CLASS, DigitalXRayImageStorageForPresentation)]
    association = AE(ae_title).associate(LOOPBACK, site.port, contexts=contexts, ae_title="CXRTRIAGE")
    assert association.is_established
    accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
    association.release()
    return accepted


@pytest.mark.parametrize(
    ("peer_is", "words"),
    [
        ({"offers": False}, "does not offer storage commitment"),
        ({"statuses": [0x0124]}, "answered the request for storage commitment with status 0x0124"),
    ],
)
def test_a_pacs_that_refuses_is_left_alone_for_long(site: Site, peer_is: dict[str, Any], words: str) -> None:
    """The objects stay stored, the reason is in the status, and images go on."""
    site.report()
    with Peer(**peer_is).serving() as pacs, roles(settings := site.settings(pacs.port)):
        eventually(lambda: site.requests() == {CommitmentState.REFUSED: 1})
        site.report()
        eventually(lambda: site.states() == {DeliveryState.STORED: 4})
        assert site.requests() == {CommitmentState.REFUSED: 1}
    status = as_dict(standing(site.database, settings, utc_now), settings, now=utc_now(), alerts=[])
    assert words in status["destinations"][0]["commitment_trouble"]
    assert status["oldest_undelivered_seconds"] is not None
    metrics = generate_latest(registry(settings, site.database, clock=SetClock(utc_now()))).decode()
    assert 'cxr_triage_commitment_requests{destination="pacs",state="refused"} 1.0' in metrics
    assert 'cxr_triage_modality_commitments{state="waiting"} 0.0' in metrics


@pytest.mark.parametrize("peer_is", [{"aborts": True}, {"statuses": [0x0213]}])
def test_a_pacs_that_does_not_answer_is_asked_again_soon(site: Site, peer_is: dict[str, Any]) -> None:
    """It hangs up, or is out of resources: each time under another transaction UID, and any of them may be reported."""
    site.report()
    with Peer(**peer_is).serving() as pacs, roles(site.settings(pacs.port)):
        eventually(lambda: len(pacs.asked) > 2 and covered(pacs) == 2)
        assert site.states() == STORED
        assert len({uid for uid, _ in pacs.asked}) == len(pacs.asked)
        for each in list(pacs.asked):
            assert report_to(site.port, all_committed(*each)) == SUCCESS
        assert site.states() == COMMITTED


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_pacs_that_hangs_is_given_up_for_now(site: Site) -> None:
    """It takes the connection and says nothing; then it comes back under the same address."""
    site.report()
    pacs = Peer()
    with pacs.serving(), roles(site.settings(pacs.port, commitment=False)):
        eventually(lambda: site.states() == STORED)
    settings = site.settings(pacs.port, deliver={"acse_timeout_seconds": 0.2})
    with roles(settings):
        with socket.create_server((LOOPBACK, pacs.port)):
            eventually(lambda: site.requests().get(CommitmentState.UNANSWERED, 0) >= 2)
            assert site.states() == STORED
        with pacs.serving():
            eventually(lambda: covered(pacs) == 2)
            for each in list(pacs.asked):
                assert report_to(site.port, all_committed(*each)) == SUCCESS
    assert site.states() == COMMITTED


def asker(site: Site, pacs: Peer, owner: str) -> Asker:
    """Make the one who asks, by himself."""
    settings = site.settings(pacs.port)
    return Asker(
        destination="pacs",
        peer=peer(settings.destinations[0], settings),
        commitments=Commitments(site.database, lease=LEASE),
        owner_id=owner,
        pace=Pace(settle=timedelta(0), wait=timedelta(0), persistence=Persistence(first=timedelta(0))),
        subjects={Subject.RESULTS},
    )


class _Killed(BaseException):
    """Ends a sender where it stands, as SIGKILL does: nothing that it would have done afterwards is done."""


@pytest.mark.parametrize(
    ("where", "sent"),
    [
        ("cxr_triage.daemon.commitment.asking.connected", 0),
        ("cxr_triage.storage.ledger.Commitments.record_requested", 1),
    ],
)
def test_a_sender_that_dies_loses_nothing(site: Site, monkeypatch: pytest.MonkeyPatch, where: str, sent: int) -> None:
    """The request is in the ledger before it is sent: upkeep frees it, and another one asks under another UID."""
    site.report()
    with Peer().serving() as pacs:
        with roles(site.settings(pacs.port, commitment=False), receive=False):
            eventually(lambda: site.states() == STORED)

        def die(*_arguments: object, **_options: object) -> None:
            raise _Killed

        with monkeypatch.context() as patch:
            patch.setattr(where, die)
            with pytest.raises(_Killed):
                asker(site, pacs, "deliver-dead").ask(NEVER)
        assert site.requests() == {CommitmentState.PLANNED: 1}
        assert not asker(site, pacs, "deliver-living").ask(NEVER)
        commitments = Commitments(site.database, lease=LEASE)
        assert commitments.release_leases(lambda owner: owner == "deliver-living", utc_now()) == 1
        assert count_commitments(site.database).troubles == {"pacs": LOST_SENDER}
        assert asker(site, pacs, "deliver-living").ask(NEVER)
        assert len({uid for uid, _ in pacs.asked}) == len(pacs.asked) == sent + 1
        with roles(site.settings(pacs.port), deliver=False):
            assert report_to(site.port, all_committed(*pacs.asked[0])) == SUCCESS
        assert site.states() == COMMITTED


def test_a_report_that_cannot_be_recorded_is_sent_again_by_the_pacs(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0x0213, resource limitation: nothing was changed."""
    from cxr_triage.model.errors import StorageError  # noqa: PLC0415

    site.report()
    with Peer().serving() as pacs, roles(site.settings(pacs.port)):
        (uid, asked), *_ = asked_for_both(site, pacs)

        def fail(*_arguments: object, **_options: object) -> None:
            raise StorageError("the database does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(Commitments, "record_report", fail)
            assert report_to(site.port, all_committed(uid, asked)) == 0x0213
        assert site.states() == STORED
        assert report_to(site.port, all_committed(uid, asked)) == SUCCESS


def test_upkeep_asks_again_where_no_report_came(site: Site) -> None:
    """After `deliver.commitment_retry_hours`; the first transaction may still be reported."""
    site.report()
    settings = {"commitment_retry_hours": 1e-9}
    with Peer().serving() as pacs, roles(configured := site.settings(pacs.port, deliver=settings)):
        asked_for_both(site, pacs)
        before = len(pacs.asked)
        upkeep = Upkeep(configured, site.database, clock=SetClock(utc_now()))
        upkeep.end_waiting()
        eventually(lambda: len(pacs.asked) > before)
        (uid, asked), *_ = pacs.asked
        assert report_to(site.port, all_committed(uid, asked)) == SUCCESS
        assert site.states()[DeliveryState.COMMITTED] == len(asked)


def test_check_says_whether_a_pacs_offers_it(site: Site) -> None:
    """Before the first image is lost to a wrong expectation."""
    with Peer().serving() as pacs:
        (finding,) = [each for each in check(site.settings(pacs.port)) if each.subject == "destination pacs"]
        assert finding.ok
        assert "offers storage commitment" in finding.message
    with Peer(offers=False).serving() as pacs:
        (finding,) = [each for each in check(site.settings(pacs.port)) if each.subject == "destination pacs"]
        assert not finding.ok
        assert "does not offer storage commitment" in finding.message
        settings = site.settings(pacs.port)
        with pytest.raises(RefusedError):
            verify_offer(peer(settings.destinations[0], settings))


def test_without_commitment_nobody_may_report(site: Site) -> None:
    """The port offers what the settings ask for, and nothing else."""
    with Peer().serving() as pacs, roles(site.settings(pacs.port, commitment=False), deliver=False):
        events: list[object] = []
        with calling(site.port, "PACS", scp_role=True, handlers=[(evt.EVT_ABORTED, events.append)]) as association:
            assert not may(association, "scp")
            assert not may(association, "scu")
