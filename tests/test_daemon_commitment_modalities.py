"""Storage commitment as SCP: a modality is told only what the PACS has committed to."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from builders import radiograph_file
from committing import Peer, Site, all_committed, all_failed, ask, calling, may, report_to, roles
from cxr_triage.daemon.commitment.event_reports import Insistence
from cxr_triage.daemon.commitment.reporting import Reporter
from cxr_triage.daemon.commitment.reports import Persistence
from cxr_triage.daemon.dicom_client import Part10File, associated, peer, store
from cxr_triage.daemon.dicom_client import Peer as Address
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.upkeep import Upkeep
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.commitment_records import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_OBJECT_INSTANCE,
    CommitmentReport,
    Failure,
    ModalityRequestState,
    Reference,
)
from cxr_triage.storage.database import open_database
from cxr_triage.storage.ledger import ModalityCommitments
from cxr_triage.storage.ledger.commitments import count_commitments
from peers import LOOPBACK, REFUSED_CONNECTION, Orthanc, eventually, free_port, orthanc
from steps import SetClock

XRAY = "XRAY1"
UID = "1.2.3.4"
LEASE = timedelta(minutes=5)
UNKNOWN = Reference("1.2.840.10008.5.1.4.1.1.1", "1.2.3.99")
#: PS3.7 Annex C.
SUCCESS, INVALID_ARGUMENT_VALUE, NO_SUCH_ACTION_TYPE, NOT_AUTHORISED, RESOURCE_LIMITATION = (
    0x0000,
    0x0115,
    0x0123,
    0x0124,
    0x0213,
)


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """Give a service with an empty ledger."""
    database = open_database(sqlite_url)
    yield Site(folder=tmp_path, url=sqlite_url, database=database)
    database.close()


def serving(site: Site, pacs_port: int, modality_port: int, **dicom: Any) -> Settings:
    """Let the modality ask, and name the PACS that decides; our own results are not asked for."""
    return site.settings(
        pacs_port,
        commitment=False,
        dicom={"commitment": True, "commitment_destination": "pacs", **dicom},
        modality=[{"ae_title": XRAY, "host": LOOPBACK, "port": modality_port}],
    )


def acknowledged(site: Site) -> Reference:
    """Send an image to the service, which answers success."""
    path = radiograph_file(site.folder)
    file = Part10File.read(path)
    address = Address(calling_ae_title=XRAY, ae_title="CXRTRIAGE", host=LOOPBACK, port=site.port)
    with associated(address, [file]) as association:
        assert store(association, file, address) == SUCCESS
    return Reference(file.sop_class_uid, str(dcmread(path, stop_before_pixels=True).SOPInstanceUID))


def asked_by(modality: Peer, site: Site, *references: Reference, uid: str = UID) -> int:
    """Ask, and hang up at once, as most modalities do; gives the status."""
    with calling(site.port, modality.ae_title) as association:
        return int(ask(association, uid, references).Status)


def states(site: Site) -> dict[ModalityRequestState, int]:
    """How many requests of modalities are in each state."""
    counted = count_commitments(site.database).modality_requests
    return {state: number for state, number in counted.items() if number}


def committed(*references: Reference, uid: str = UID, failed: tuple[Failure, ...] = ()) -> CommitmentReport:
    """What a modality is told."""
    return CommitmentReport(transaction_uid=uid, committed=references, failed=failed)


def store_to_both(modality: Orthanc, path: Path, *names: str) -> str:
    """Put an image into a modality and let it send to each; its identifier there."""
    uploaded = modality.post("/instances", path.read_bytes())
    for name in names:
        answer = modality.post(f"/modalities/{name}/store", uploaded["ID"].encode())
        assert answer["FailedInstancesCount"] == 0
    return str(uploaded["ID"])


def commitment_of(modality: Orthanc, resource: str) -> str:
    """Let an Orthanc ask us; the path of the result."""
    answer = modality.post("/modalities/triage/storage-commitment", f'{{"Resources": ["{resource}"]}}'.encode())
    return str(answer["Path"])


def test_orthanc_as_a_modality_is_told_what_orthanc_as_a_pacs_has(site: Site) -> None:
    """The image goes to both; the answer of the one is what the other hears."""
    pacs_modalities = {"triage": ("CXRTRIAGE", LOOPBACK, site.port)}
    with orthanc(site.folder / "pacs", modalities=pacs_modalities) as pacs:
        known = {"triage": ("CXRTRIAGE", LOOPBACK, site.port), "pacs": ("PACS", LOOPBACK, pacs.dicom_port)}
        with (
            orthanc(site.folder / "modality", modalities=known, ae_title=XRAY) as modality,
            roles(serving(site, pacs.dicom_port, modality.dicom_port)),
        ):
            image = store_to_both(modality, radiograph_file(site.folder), "triage")
            result = commitment_of(modality, image)
            eventually(lambda: any(site.requests().values()))
            assert modality.get(result)["Status"] == "Pending"
            store_to_both(modality, radiograph_file(site.folder), "triage")
            assert modality.post("/modalities/pacs/store", image.encode())["FailedInstancesCount"] == 0
            eventually(lambda: bool(modality.get(result)["Status"] == "Success"))
            assert len(modality.get(result)["Success"]) == 1


def test_orthanc_is_told_what_nobody_has(site: Site) -> None:
    """An image that we never acknowledged fails, with the reason."""
    with (
        orthanc(
            site.folder / "modality", modalities={"triage": ("CXRTRIAGE", LOOPBACK, site.port)}, ae_title=XRAY
        ) as modality,
        Peer().serving() as pacs,
        roles(serving(site, pacs.port, modality.dicom_port)),
    ):
        result = commitment_of(modality, store_to_both(modality, radiograph_file(site.folder)))
        eventually(lambda: bool(modality.get(result)["Status"] == "Failure"))
        (failure,) = modality.get(result)["Failures"]
        assert "was not available" in failure["Description"]


def test_success_waits_for_the_pacs(site: Site) -> None:
    """The request is acknowledged, the PACS asked, and only its word passed on."""
    modality = Peer(ae_title=XRAY)
    with modality.serving(), Peer().serving() as pacs, roles(serving(site, pacs.port, modality.port)):
        image = acknowledged(site)
        assert asked_by(modality, site, image) == SUCCESS
        eventually(lambda: len(pacs.asked) == 1)
        assert pacs.asked[0][1] == (image,)
        assert modality.told == []
        assert report_to(site.port, all_committed(*pacs.asked[0])) == SUCCESS
        eventually(lambda: states(site) == {ModalityRequestState.REPORTED: 1})
    assert modality.told == [committed(image)]


def test_a_pacs_that_gets_the_image_later_is_asked_again(site: Site) -> None:
    """And nothing is said to the modality before."""
    modality = Peer(ae_title=XRAY)
    with modality.serving(), Peer().serving() as pacs, roles(serving(site, pacs.port, modality.port)):
        image = acknowledged(site)
        assert asked_by(modality, site, image) == SUCCESS
        for number in (1, 2):
            eventually(lambda number=number: len(pacs.asked) == number)  # type: ignore[misc]
            assert report_to(site.port, all_failed(*pacs.asked[-1], NO_SUCH_OBJECT_INSTANCE)) == SUCCESS
        eventually(lambda: len(pacs.asked) == 3)
        assert modality.told == []
        assert report_to(site.port, all_committed(*pacs.asked[-1])) == SUCCESS
        eventually(lambda: modality.told == [committed(image)])


def test_a_pacs_that_never_gets_the_image_fails_in_the_end(site: Site) -> None:
    """After `dicom.commitment_give_up_hours`, with the reason of the PACS."""
    modality = Peer(ae_title=XRAY)
    with modality.serving(), Peer().serving() as pacs:
        settings = serving(site, pacs.port, modality.port, commitment_give_up_hours=1)
        with roles(settings):
            image = acknowledged(site)
            assert asked_by(modality, site, image) == SUCCESS
            eventually(lambda: len(pacs.asked) == 1)
            assert report_to(site.port, all_failed(*pacs.asked[-1], NO_SUCH_OBJECT_INSTANCE)) == SUCCESS
            Upkeep(settings, site.database, clock=SetClock(utc_now())).end_waiting()
            assert modality.told == []
            Upkeep(settings, site.database, clock=SetClock(utc_now() + timedelta(hours=1))).end_waiting()
            eventually(lambda: modality.told == [committed(failed=(Failure(image, NO_SUCH_OBJECT_INSTANCE),))])


@pytest.mark.parametrize("stays", [True, False])
def test_a_result_that_stands_is_told_on_the_same_association(site: Site, stays: bool) -> None:
    """If the modality stays; one that hangs up is told on another."""
    modality, here = Peer(ae_title=XRAY), Peer(ae_title=XRAY)
    with modality.serving(), Peer().serving() as pacs, roles(serving(site, pacs.port, modality.port)):
        image = acknowledged(site)
        other_class = Reference(UNKNOWN.sop_class_uid, image.sop_instance_uid)
        with calling(site.port, XRAY, handlers=here.handlers) as association:
            assert ask(association, UID, [UNKNOWN, other_class]).Status == SUCCESS
            if stays:
                eventually(lambda: len(here.told) == 1)
        told = here if stays else modality
        eventually(lambda: len(told.told) == 1 and states(site) == {ModalityRequestState.REPORTED: 1})
    failed = (Failure(UNKNOWN, NO_SUCH_OBJECT_INSTANCE), Failure(other_class, CLASS_INSTANCE_CONFLICT))
    assert told.told == [committed(failed=failed)]
    assert pacs.asked == []


def test_a_repeated_request_is_answered_the_same(site: Site) -> None:
    """As after a lost answer; and a transaction UID that is used twice fails."""
    modality, other = Peer(ae_title=XRAY), Peer(ae_title=XRAY)
    with modality.serving(), Peer().serving() as pacs, roles(serving(site, pacs.port, modality.port)):
        image, second = acknowledged(site), acknowledged(site)
        assert asked_by(modality, site, image) == SUCCESS
        assert asked_by(modality, site, image) == SUCCESS
        eventually(lambda: len(pacs.asked) == 1)
        assert report_to(site.port, all_committed(*pacs.asked[0])) == SUCCESS
        eventually(lambda: modality.told == [committed(image)])
        assert asked_by(modality, site, image) == SUCCESS
        eventually(lambda: modality.told == [committed(image)] * 2)
        assert asked_by(modality, site, second) == SUCCESS
        eventually(lambda: len(modality.told) == 3)
        assert modality.told[2] == committed(failed=(Failure(second, DUPLICATE_TRANSACTION_UID),))
    assert len(pacs.asked) == 1
    assert other.told == []


def test_a_modality_without_an_address_is_refused(site: Site) -> None:
    """It could never be told: it hears so at once, and nothing is recorded."""
    with Peer().serving() as pacs, roles(serving(site, pacs.port, free_port())):
        image = acknowledged(site)
        with calling(site.port, "XRAY9") as association:
            answer = ask(association, UID, [image])
    assert answer.Status == NOT_AUTHORISED
    assert answer.ErrorComment == "no address is configured for this calling AE title"
    assert states(site) == {}


def test_unusable_requests_are_refused(site: Site) -> None:
    """With the status that says why; nothing is recorded."""
    modality = Peer(ae_title=XRAY)
    with Peer().serving() as pacs, roles(serving(site, pacs.port, modality.port)):
        assert asked_by(modality, site) == INVALID_ARGUMENT_VALUE
        with calling(site.port, XRAY) as association:
            assert ask(association, UID, [UNKNOWN], action_type=2).Status == NO_SUCH_ACTION_TYPE
    assert states(site) == {}


def test_a_request_that_cannot_be_recorded_is_not_acknowledged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modality asks again later."""

    def fail(*_arguments: object) -> None:
        raise StorageError("the database does not answer")

    modality = Peer(ae_title=XRAY)
    with Peer().serving() as pacs, roles(serving(site, pacs.port, modality.port)):
        with monkeypatch.context() as patch:
            patch.setattr(ModalityCommitments, "record_request", fail)
            assert asked_by(modality, site, UNKNOWN) == RESOURCE_LIMITATION
        assert states(site) == {}


def test_it_is_off_by_default(site: Site) -> None:
    """Modalities delete their images on it."""
    with Peer().serving() as pacs, roles(site.settings(pacs.port)), calling(site.port, XRAY) as association:
        assert not may(association, "scu")


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_modality_that_is_off_is_told_when_it_is_back(site: Site) -> None:
    """Across restarts of the service, with the same content."""
    modality = Peer(ae_title=XRAY, statuses=[0x0110, SUCCESS])
    with Peer().serving() as pacs:
        settings = serving(site, pacs.port, modality.port)
        with roles(settings):
            assert asked_by(modality, site, UNKNOWN) == SUCCESS
            eventually(lambda: states(site) == {ModalityRequestState.ANSWERED: 1})
        with modality.serving(), roles(settings):
            eventually(lambda: states(site) == {ModalityRequestState.REPORTED: 1})
    told = committed(failed=(Failure(UNKNOWN, NO_SUCH_OBJECT_INSTANCE),))
    assert modality.told == [told, told]


class _Killed(BaseException):
    """Ends a sender where it stands, as SIGKILL does: nothing that it would have done afterwards is done."""


def test_a_reporter_that_dies_after_the_report_repeats_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modality hears the same twice, and the request is done once."""

    def die(*_arguments: object) -> None:
        raise _Killed

    modality = Peer(ae_title=XRAY)
    settings = serving(site, free_port(), modality.port)
    requests = ModalityCommitments(site.database, lease=LEASE)
    with modality.serving():
        with roles(settings, deliver=False):
            assert asked_by(modality, site, UNKNOWN) == SUCCESS
        dead, living = (
            Reporter(
                modality=XRAY,
                peer=peer(settings.modality[0], settings),
                requests=requests,
                owner_id=owner,
                insistence=Insistence(),
            )
            for owner in ("deliver-dead", "deliver-living")
        )
        with monkeypatch.context() as patch:
            patch.setattr(ModalityCommitments, "record_reported", die)
            with pytest.raises(_Killed):
                dead.report_next()
        assert not living.report_next()
        assert requests.release_leases(lambda owner: owner != "deliver-dead", utc_now()) == 1
        assert living.report_next()
        assert not living.report_next()
    told = committed(failed=(Failure(UNKNOWN, NO_SUCH_OBJECT_INSTANCE),))
    assert modality.told == [told, told]
    assert states(site) == {ModalityRequestState.REPORTED: 1}


def test_a_modality_that_does_not_select_our_role_is_not_told(site: Site) -> None:
    """PS3.7 D.3.3.4: without it we are SCU there, and may not report. After the time for it, it is given up."""
    modality = Peer(ae_title=XRAY, takes_scp=False)
    with modality.serving():
        settings = serving(site, free_port(), modality.port)
        requests = ModalityCommitments(site.database, lease=LEASE)
        reporter = Reporter(
            modality=XRAY,
            peer=peer(settings.modality[0], settings),
            requests=requests,
            owner_id="deliver-test",
            insistence=Insistence(persistence=Persistence(first=timedelta(0), longest=timedelta(0))),
        )
        with roles(settings, deliver=False):
            assert asked_by(modality, site, UNKNOWN) == SUCCESS
            eventually(reporter.report_next)
        assert states(site) == {ModalityRequestState.ANSWERED: 1}
        late = Reporter(
            modality=XRAY,
            peer=peer(settings.modality[0], settings),
            requests=requests,
            owner_id="deliver-test",
            insistence=Insistence(give_up=timedelta(0)),
        )
        eventually(late.report_next)
    assert states(site) == {ModalityRequestState.ABANDONED: 1}
    assert modality.told == []


def test_settings_that_could_only_lose_images_are_refused(site: Site) -> None:
    """Whom to ask, and where to answer, must be known before anybody is promised anything."""
    with pytest.raises(ValueError, match="names no"):
        site.settings(1, dicom={"commitment": True})
    with pytest.raises(ValueError, match="names no"):
        site.settings(1, dicom={"commitment": True, "commitment_destination": "other"})
    with pytest.raises(ValueError, match=r"there is no \[\[modality\]\]"):
        site.settings(1, dicom={"commitment": True, "commitment_destination": "pacs"})
    twice = [{"ae_title": XRAY, "host": LOOPBACK, "port": port} for port in (1, 2)]
    with pytest.raises(ValueError, match="given twice"):
        site.settings(1, modality=twice)
