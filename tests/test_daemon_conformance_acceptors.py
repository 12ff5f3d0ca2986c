"""What our ports accept is what the printed conformance statement says: all of it, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, build_context, build_role
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from committing import Site, roles
from cxr_triage.daemon.commitment.messages import SOP_CLASS
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.worklist.c_find import STUDY_ROOT_FIND
from cxr_triage.daemon.worklist.mwl import WorklistRole
from cxr_triage.storage.database import open_database
from peers import LOOPBACK, free_port, running
from printed import Pair, contexts, policy, table
from proposing import accepted, everything, known, proposing

RECEIVER, WORKLIST = "4.2.1.1 Association policies", "4.2.3.1 Association policies"
IMAGES = "4.2.1.2 Activity: take images"
REQUESTS = "4.2.1.3 Activity: take requests for storage commitment"
REPORTS = "4.2.1.4 Activity: take reports on storage commitment"
LIST = "4.2.3.2 Activity: show the reading list"
OURS, LISTS = "CXRTRIAGE", "CXRLIST"
ECHO: list[Pair] = [(VERIFICATION, "1.2.840.10008.1.2")]
COMMITMENT: list[Pair] = [(SOP_CLASS, syntax) for syntax in known("Transfer Syntax")]


@pytest.fixture
def site(tmp_path: Path, sqlite_url: str) -> Iterator[Site]:
    """Give a service with an empty ledger."""
    database = open_database(sqlite_url)
    yield Site(folder=tmp_path, url=sqlite_url, database=database)
    database.close()


@contextmanager
def receiving(site: Site, *, commitment: bool = False, **dicom: Any) -> Iterator[int]:
    """Run the receiver as it is configured by default, or with storage commitment in both roles; gives its port."""
    asked = {"commitment": True, "commitment_destination": "pacs"} if commitment else {}
    tables = {"modality": [{"ae_title": "XRAY1", "host": LOOPBACK, "port": free_port()}]} if commitment else {}
    settings = site.settings(free_port(), commitment=commitment, dicom={**asked, **dicom}, **tables)
    with roles(settings, deliver=False):
        yield site.port


@contextmanager
def listing(site: Site, **worklist: Any) -> Iterator[int]:
    """Run the worklist; gives its port."""
    port = free_port()
    settings = site.settings(free_port(), worklist={"enabled": True, "port": port, **worklist})
    settings.prepare_folders()
    with running(WorklistRole(settings).run):
        yield port


def test_the_receiver_accepts_what_is_stated(site: Site) -> None:
    """Every SOP class of DICOM in every transfer syntax is proposed."""
    with receiving(site) as port:
        assert accepted(port, OURS, everything()) == contexts(IMAGES)


def test_the_worklist_accepts_what_is_stated(site: Site) -> None:
    """The same there; without `worklist.study_root`, all but that model."""
    with listing(site, study_root=True) as port:
        assert accepted(port, LISTS, everything()) == contexts(LIST)
    with listing(site) as port:
        without = {(model, syntax) for model, syntax in contexts(LIST) if model != STUDY_ROOT_FIND}
        assert accepted(port, LISTS, contexts(LIST)) == without


def test_storage_commitment_is_accepted_as_stated(site: Site) -> None:
    """Anybody may ask; who is asked may report, where it negotiates the role."""
    as_scp = [build_role(SOP_CLASS, scp_role=True)]
    with receiving(site, commitment=True) as port:
        assert accepted(port, OURS, COMMITMENT) == contexts(REQUESTS)
        assert accepted(port, OURS, COMMITMENT, calling="PACS", roles=as_scp) == contexts(REPORTS)
        with proposing(port, OURS, COMMITMENT[:1], calling="PACS", roles=as_scp) as association:
            assert [each.as_scp for each in association.accepted_contexts] == [True]
        with proposing(port, OURS, COMMITMENT[:1], roles=as_scp) as association:
            assert association.accepted_contexts == []
        everywhere = contexts(IMAGES) | contexts(REQUESTS)
        assert accepted(port, OURS, everything()) == everywhere


def test_storage_commitment_is_off_as_stated(site: Site) -> None:
    """Only the PACS that is asked gets the context, unless modalities may ask."""
    settings = site.settings(free_port(), commitment=True)
    with roles(settings, deliver=False):
        assert accepted(site.port, OURS, COMMITMENT) == set()
        assert accepted(site.port, OURS, COMMITMENT, calling="PACS") == contexts(REPORTS)


def test_a_transfer_syntax_is_chosen_as_stated(site: Site) -> None:
    """The first of our list, whatever the requestor's order."""
    lists = table("4.2 Application entity specifications", "list")
    ours = [row["UID"] for row in lists if row["list"] == "images"]
    with receiving(site) as port:
        for at, first in enumerate(ours):
            with several(port, "1.2.840.10008.5.1.4.1.1.1", ours[at:][::-1]) as association:
                assert [context.transfer_syntax for context in association.accepted_contexts] == [[first]]


@contextmanager
def several(port: int, sop_class: str, syntaxes: list[str]) -> Iterator[Association]:
    """Propose several transfer syntaxes in one context."""
    association = AE("ANYBODY").associate(LOOPBACK, port, contexts=[build_context(sop_class, syntaxes)], ae_title=OURS)
    try:
        yield association
    finally:
        association.release()


def answered(association: Association, item: type) -> list[Any]:
    """Give the items of a kind in the answer to an association request."""
    primitive = association.acceptor.primitive
    assert primitive is not None
    return [each for each in primitive.user_information if isinstance(each, item)]


@pytest.mark.parametrize("where", [RECEIVER, WORKLIST])
def test_policies_are_as_stated(site: Site, where: str) -> None:
    """PDU length, who we are, and what we do not negotiate, though it is proposed."""
    asynchronous = AsynchronousOperationsWindowNegotiation()
    asynchronous.maximum_number_operations_invoked = asynchronous.maximum_number_operations_performed = 5
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.positive_response_requested = 1, b"anybody", True
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid = "1.2.840.10008.5.1.4.31"
    extended.service_class_application_information = b"\x01\x01\x01"
    with (
        serving(site, where) as (port, title),
        proposing(port, title, ECHO, roles=[asynchronous, identity, extended]) as association,
    ):
        (length,) = answered(association, MaximumLengthNotification)
        (implementation,) = answered(association, ImplementationClassUIDNotification)
        (version,) = answered(association, ImplementationVersionNameNotification)
        assert str(length.maximum_length_received) == policy(where, "Maximum PDU length that we receive, bytes")
        assert implementation.implementation_class_uid == policy(where, "Implementation Class UID")
        assert version.implementation_version_name == policy(where, "Implementation Version Name")
        assert association.acceptor.primitive is not None
        application_context = association.acceptor.primitive.application_context_name
        assert application_context == policy(where, "Application Context Name")
        refused = (AsynchronousOperationsWindowNegotiation, SOPClassExtendedNegotiation)
        assert [answered(association, kind) for kind in refused] == [[], []]


@contextmanager
def serving(site: Site, where: str, **settings: Any) -> Iterator[tuple[int, str]]:
    """Run the application entity of a chapter; gives its port and AE title."""
    run, title = (receiving, OURS) if where == RECEIVER else (listing, LISTS)
    with run(site, **settings) as port:
        yield port, title


def rejection(port: int, called: str) -> tuple[int | None, ...]:
    """Be rejected; gives result, source and reason (PS3.8 Table 9-21)."""
    with proposing(port, called, ECHO) as association:
        answer = association.acceptor.primitive or association.dul.peek_next_pdu()
        assert not association.is_established
        assert answer is not None
        return answer.result, answer.result_source, answer.diagnostic


def stated_rejections(where: str) -> set[tuple[int | None, ...]]:
    """Give result, source and reason of each, as printed."""
    rows = table(where, "reason")
    return {tuple(int(row[column].split(",")[0]) for column in ("result", "source", "reason")) for row in rows}


@pytest.mark.filterwarnings("ignore:unclosed")
@pytest.mark.parametrize("where", [RECEIVER, WORKLIST])
def test_rejections_are_as_stated(site: Site, where: str) -> None:
    """All of them are provoked."""
    provoked = set()
    with serving(site, where, allowed_ae_titles=["XRAY1"]) as (port, title):
        provoked.add(rejection(port, title))
    if where == RECEIVER:
        with serving(site, where, require_called_ae_title=True) as (port, _):
            provoked.add(rejection(port, "SOMEBODY"))
    with serving(site, where, maximum_associations=1) as (port, title), proposing(port, title, ECHO):
        provoked.add(rejection(port, title))
    assert provoked == stated_rejections(where)


def test_as_many_associations_as_stated(site: Site) -> None:
    """By default; one more is rejected."""
    stated = int(policy(RECEIVER, "Maximum number of simultaneous associations"))
    with receiving(site) as port:
        held = [proposing(port, OURS, ECHO) for _ in range(stated)]
        assert all(each.__enter__().is_established for each in held)
        assert rejection(port, OURS) == (2, 3, 2)
        for each in held:
            each.__exit__(None, None, None)


def test_a_sender_of_nothing_that_we_take_is_accepted_as_stated(site: Site) -> None:
    """Its contexts are refused one by one, among them our own results."""
    ours = [(row["UID"], "1.2.840.10008.1.2.1") for row in table("4.2.2.2 Activity: store results", "our role")]
    with receiving(site) as port, proposing(port, OURS, [pair for pair in ours if pair[0] != VERIFICATION]) as refused:
        primitive = refused.acceptor.primitive
        assert primitive is not None
        assert primitive.result == 0
        assert refused.accepted_contexts == []
