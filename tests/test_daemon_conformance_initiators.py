"""What we propose to others is what the printed conformance statement says, for every profile and every purpose."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationVersionNameNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

import builders
import results as making
from committing import Peer, Site, calling, roles
from committing import ask as ask_for
from cxr_triage.daemon.commitment.messages import SOP_CLASS
from cxr_triage.daemon.deliver import BATCH, DeliverRole
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.orders.role import OrdersRole
from cxr_triage.daemon.results.finishing import TRANSFER_SYNTAX, encode
from cxr_triage.daemon.results.objects import BuiltObject
from cxr_triage.daemon.results.profiles import PROFILES
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.worklist.c_find import MODALITY_WORKLIST_FIND
from cxr_triage.model.priority import Policy
from cxr_triage.storage.commitment_records import Reference
from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.inbox import Outbox
from cxr_triage.storage.ledger import Intake, Reporting, Scoring
from cxr_triage.storage.result_records import ResultObject
from deliveries import HASTY, NEVER, Pacs, Results
from peers import LOOPBACK, eventually, running
from printed import DOCS, Pair, contexts, policy, table
from proposing import known

SENDER = "4.2.2.1 Association policies"
STORING = "4.2.2.2 Activity: store results"
ASKING = "4.2.2.3 Activity: ask for storage commitment"
TELLING = "4.2.2.4 Activity: tell modalities"
INQUIRING = "4.2.2.5 Activity: ask the RIS what was ordered"
OVERVIEW = "Results"
#: PS3.7 Annex D.3.3: what the policies say that we do not negotiate.
NOT_NEGOTIATED = (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
UID = "1.2.3.4"


@dataclass
class Recorder:
    """A peer that takes everything, and writes down what associations are asked of it."""

    requests: list[A_ASSOCIATE] = field(default_factory=list)
    #: What was stored: SOP class and transfer syntax of its presentation context.
    stored: list[Pair] = field(default_factory=list)

    @property
    def proposed(self) -> set[Pair]:
        """Presentation contexts, one for each transfer syntax."""
        return {
            (str(context.abstract_syntax), str(syntax))
            for request in self.requests
            for context in request.presentation_context_definition_list
            for syntax in context.transfer_syntax
        }

    @property
    def handlers(self) -> list[EventHandlerType]:
        """What it notes, on whichever association."""
        return [(evt.EVT_REQUESTED, self._note), (evt.EVT_C_STORE, self._store)]

    @contextmanager
    def serving(self, *handlers: EventHandlerType, ae_title: str = "PACS") -> Iterator[int]:
        """Serve, with these handlers too; gives the port."""
        entity = AE(ae_title)
        entity.add_supported_context(MODALITY_WORKLIST_FIND)
        for sop_class in {row["UID"] for row in table(STORING, "our role")} | {SOP_CLASS}:
            entity.add_supported_context(sop_class, known("Transfer Syntax")[:4], scu_role=True, scp_role=True)
        server = entity.start_server((LOOPBACK, 0), block=False, evt_handlers=[*self.handlers, *handlers])
        assert server is not None
        assert server.socket is not None
        try:
            yield int(server.socket.getsockname()[1])
        finally:
            server.shutdown()

    def _note(self, event: Event) -> None:
        assert event.assoc.requestor.primitive is not None
        self.requests.append(event.assoc.requestor.primitive)

    def _store(self, event: Event) -> int:
        self.stored.append((str(event.context.abstract_syntax), str(event.context.transfer_syntax)))
        return 0x0000


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """Give a service with an empty ledger."""
    database = open_database(sqlite_url)
    yield Site(folder=tmp_path, url=sqlite_url, database=database)
    database.close()


def report(site: Site, profile: str) -> list[ResultObject]:
    """Make all that a profile makes of a study, due at the PACS."""
    header = making.source()
    Intake(site.database).record_received(builders.received_instance(sop_instance_uid=header.SOPInstanceUID))
    scoring = Scoring(site.database, lease=timedelta(minutes=5))
    (claim,) = scoring.claim_to_index("test", 1)
    indexed = builders.instance_header(study_instance_uid=header.StudyInstanceUID)
    scoring.record_indexed(claim, indexed, Policy())
    to_score = scoring.claim_to_score("test")
    assert to_score is not None
    scoring.record_scored(to_score, builders.prediction(), Policy())
    reporting = Reporting(site.database)
    revision = reporting.open_revision(header.StudyInstanceUID, Policy().digest())
    objects = [_finished(site.outbox, built, profile) for built in making.objects(header, profile=profile)]
    reporting.complete_revision(revision, objects, [("pacs", profile)])
    return objects


def _finished(outbox: Outbox, built: BuiltObject, profile: str) -> ResultObject:
    dataset, encoded = built.dataset, encode(built.dataset)
    uid = str(dataset.SOPInstanceUID)
    file = builders.store_file(outbox, encoded.dataset, sop_instance_uid=uid, meta=encoded.meta)
    return ResultObject(
        kind=built.kind,
        sop_instance_uid=uid,
        sop_class_uid=str(dataset.SOPClassUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        source_sop_instance_uid=built.source_sop_instance_uid,
        profile=profile,
        path=file.path,
        sha256=file.sha256,
    )


@contextmanager
def delivering(settings: Settings) -> Iterator[None]:
    """Run the sender."""
    settings.prepare_folders()
    with running(DeliverRole(settings).run):
        yield


def objects_of(profile: str) -> set[str]:
    """Give the names of the SOP classes of a profile's objects, as printed."""
    (row,) = [row for row in table(OVERVIEW, "objects") if row["profile"] == f"`{profile}`"]
    return {f"{name} Storage" for name in row["objects"].split(", ")}


def named(pairs: Sequence[Pair] | set[Pair]) -> set[str]:
    """Give the printed names of the SOP classes."""
    rows = {row["UID"]: row["SOP class"] for row in table(STORING, "transfer syntaxes")}
    return {rows[sop_class] for sop_class, _ in pairs}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_proposes_what_is_stated(site: Site, profile: str) -> None:
    """Verification, and two contexts for each object of the profile; each goes in the first of them."""
    pacs = Recorder()
    objects = report(site, profile)
    with pacs.serving() as port, delivering(site.settings(port, commitment=False)):
        eventually(lambda: site.states() == {DeliveryState.STORED: len(objects)})
    stated = contexts(STORING)
    due = {pair for pair in pacs.proposed if pair[0] != VERIFICATION}
    # All that is printed of each class that is due: as it is, and in the default transfer syntax.
    assert due == {pair for pair in stated if pair[0] in {sop_class for sop_class, _ in pacs.stored}}
    assert pacs.proposed <= stated
    assert {syntax for _, syntax in pacs.stored} == {TRANSFER_SYNTAX}
    assert set(pacs.stored) <= due
    assert named(pacs.stored) == objects_of(profile)
    assert {pair for pair in stated if pair[0] == VERIFICATION} <= pacs.proposed


def test_all_that_is_stated_is_proposed() -> None:
    """No class is printed that no profile has."""
    printed = {name for row in table(OVERVIEW, "objects") for name in objects_of(row["profile"].strip("`"))}
    assert printed == {row["SOP class"] for row in table(STORING, "our role")} - {"Verification SOP Class"}
    assert {row["profile"] for row in table(OVERVIEW, "objects")} == {f"`{profile}`" for profile in PROFILES}


def assert_policies(requests: Sequence[A_ASSOCIATE], called: str) -> None:
    """Insist on what the policies of the sender say, in each of these association requests."""
    assert requests
    for request in requests:
        assert request.application_context_name == policy(SENDER, "Application Context Name")
        length = policy(SENDER, "Maximum PDU length that we receive, bytes")
        assert str(request.maximum_length_received) == length
        assert request.implementation_class_uid == policy(SENDER, "Implementation Class UID")
        (version,) = [
            each for each in request.user_information if isinstance(each, ImplementationVersionNameNotification)
        ]
        assert version.implementation_version_name == policy(SENDER, "Implementation Version Name")
        assert (request.calling_ae_title.strip(), request.called_ae_title.strip()) == (
            default("dicom.ae_title"),
            called,
        )
        assert [each for each in request.user_information if isinstance(each, NOT_NEGOTIATED)] == []


def default(setting: str) -> str:
    """Give the default of a setting, as printed."""
    (row,) = [row for row in table("4.4.1 Local application entities", "setting") if row["setting"] == f"`{setting}`"]
    return row["default"].strip('`"')


def roles_proposed(requests: Sequence[A_ASSOCIATE]) -> list[tuple[str, bool, bool]]:
    """Give SOP class, and whether we propose to be SCU and SCP, of each role selection."""
    items = [each for request in requests for each in request.user_information]
    found = [each for each in items if isinstance(each, SCP_SCU_RoleSelectionNegotiation)]
    return [(str(each.sop_class_uid), bool(each.scu_role), bool(each.scp_role)) for each in found]


def test_policies_are_as_stated_when_storing(site: Site) -> None:
    """And no role is negotiated."""
    pacs = Recorder()
    objects = report(site, "air")
    with pacs.serving() as port, delivering(site.settings(port, commitment=False)):
        eventually(lambda: site.states() == {DeliveryState.STORED: len(objects)})
    assert_policies(pacs.requests, "PACS")
    assert roles_proposed(pacs.requests) == []
    assert f"at most {BATCH} of them" in (DOCS / "conformance-statement.md").read_text("utf-8")


def test_asking_for_commitment_is_as_stated(site: Site) -> None:
    """On an association of its own, in the default roles."""
    pacs, storing = Recorder(), contexts(STORING)
    asked: list[Event] = []

    def take(event: Event) -> tuple[int, None]:
        asked.append(event)
        return 0x0000, None

    with pacs.serving((evt.EVT_N_ACTION, take)) as port:
        objects = report(site, "air")
        with delivering(site.settings(port)):
            eventually(lambda: bool(asked))
    asking = [each for each in pacs.requests if SOP_CLASS in abstract(each)]
    assert_policies(asking, "PACS")
    assert Recorder(requests=asking).proposed == contexts(ASKING)
    assert Recorder(requests=[each for each in pacs.requests if each not in asking]).proposed <= storing
    assert roles_proposed(pacs.requests) == []
    assert len(objects) == 2


def test_telling_a_modality_is_as_stated(site: Site) -> None:
    """With the role of an SCP."""
    modality = Recorder()
    told: list[Event] = []

    def take(event: Event) -> tuple[int, None]:
        told.append(event)
        return 0x0000, None

    with modality.serving((evt.EVT_N_EVENT_REPORT, take), ae_title="XRAY1") as port, Peer().serving() as pacs:
        settings = site.settings(
            pacs.port,
            commitment=False,
            dicom={"commitment": True, "commitment_destination": "pacs"},
            modality=[{"ae_title": "XRAY1", "host": LOOPBACK, "port": port}],
        )
        with roles(settings):
            with calling(site.port, "XRAY1") as association:
                ask_for(association, UID, [Reference("1.2.840.10008.5.1.4.1.1.1", "1.2.3.99")])
            eventually(lambda: bool(told))
    assert_policies(modality.requests, "XRAY1")
    assert modality.proposed == contexts(TELLING)
    (row,) = [row for row in table(TELLING, "our role") if row["UID"] == SOP_CLASS]
    assert row["our role"] == "SCP"
    assert set(roles_proposed(modality.requests)) == {(SOP_CLASS, False, True)}  # told again where it was slow


def test_asking_the_ris_is_as_stated(site: Site) -> None:
    """By one key after the other; nothing is asked for that is not printed."""
    ris, asked = Recorder(), list[Event]()

    def answer(event: Event) -> Iterator[tuple[int, None]]:
        asked.append(event)
        yield 0x0000, None

    report(site, "air")
    with ris.serving((evt.EVT_C_FIND, answer), ae_title="RIS") as port:
        named = {"host": LOOPBACK, "port": port, "ae_title": "RIS"}
        with running(OrdersRole(site.settings(port, commitment=False, ris=named)).run):
            eventually(lambda: len(asked) == 2)
    assert_policies(ris.requests, "RIS")
    assert ris.proposed == contexts(INQUIRING)
    printed = {row["tag"] for row in table(INQUIRING, "tag")}
    for event in asked:
        assert {str(element.tag).replace(" ", "") for element in event.identifier.iterall()} == printed
    assert [bool(event.identifier.StudyInstanceUID) for event in asked] == [True, False]
    assert [bool(event.identifier.AccessionNumber) for event in asked] == [False, True]


def abstract(request: A_ASSOCIATE) -> set[str]:
    """Give the SOP classes of an association request."""
    return {str(context.abstract_syntax) for context in request.presentation_context_definition_list}


def statuses() -> Iterator[tuple[int, str]]:
    """Give every status that is printed, one of each range, and what is printed that we do."""
    for row in table(STORING, "status that we get"):
        for printed in row["status that we get"].replace("any other", "0x0118").split(", "):
            yield int("0x" + printed.removeprefix("0x").replace("x", "1"), 16), row["what we do"]


def test_every_kind_of_consequence_is_printed() -> None:
    """So that the next test looks at each."""
    assert {consequence(printed) for _, printed in statuses()} == {
        DeliveryState.STORED,
        DeliveryState.PENDING,
        DeliveryState.DEAD,
        DeliveryState.NOT_TAKEN,
    }


def consequence(printed: str) -> DeliveryState:
    """Give the state that a printed consequence leads to."""
    if printed.startswith("stored"):
        return DeliveryState.STORED
    if printed.startswith("`not_taken`"):
        return DeliveryState.NOT_TAKEN
    return DeliveryState.PENDING if printed.startswith("tried again") else DeliveryState.DEAD


@pytest.mark.parametrize(("status", "printed"), list(statuses()), ids=lambda value: str(value)[:12])
def test_a_status_has_the_consequence_that_is_stated(results: Results, status: int, printed: str) -> None:
    """An object is stored, waits, or is given up after so many offers."""
    results.report("pacs")
    pacs = Pacs(statuses=[status])
    with pacs.serving() as port:
        courier = results.courier(port)
        eventually(lambda: offered_often(pacs) or (not courier.deliver_batch(NEVER) and is_done(results)))
    assert consequence(printed) in results.states()
    assert offered_often(pacs) == (consequence(printed) is DeliveryState.PENDING)


def offered_often(pacs: Pacs) -> bool:
    """Whether it was offered more than would be offered again to who refuses."""
    return len(pacs.asked) > HASTY.maximum_refusals


def is_done(results: Results) -> bool:
    """Whether nothing will be sent any more."""
    return bool(results.states().keys() & {DeliveryState.STORED, DeliveryState.DEAD, DeliveryState.NOT_TAKEN})
