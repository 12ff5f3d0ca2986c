"""Messages that no library sends: each is answered, and none of them harms the next."""

import io
from collections.abc import Callable, Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.dimse_primitives import N_ACTION, N_CREATE, N_GET, N_SET

from cxr_triage.daemon.ups.port import OFFERED, PUSH
from cxr_triage.storage.database import Database
from placing import placed
from steps import Steps
from test_daemon_ups_dimse import port
from upsclient import Client, client

#: A tag, and a length that runs past the end.
BROKEN = b"\x74\x00\x00\x10CS\xff\xffSCHED"
#: A sequence that holds itself open.
UNENDED = b"\x74\x00\x02\x10SQ\x00\x00\xff\xff\xff\xff" * 3


@pytest.fixture
def reader(sqlite_database: Database) -> Iterator[Client]:
    """Give an association with procedure steps alone."""
    with port(Steps(sqlite_database)) as number, client(number) as connected:
        yield connected


def send(reader: Client, primitive: N_ACTION | N_CREATE | N_GET | N_SET) -> Dataset:
    """Send a message as it is; gives what its answer says."""
    association = reader.association
    primitive.MessageID = 77
    association._reactor_checkpoint.clear()  # noqa: SLF001 - as pynetdicom's own requests do
    try:
        association.dimse.send_msg(primitive, association.accepted_contexts[0].context_id or 1)
        _, answer = association.dimse.get_msg(block=True)
    finally:
        association._reactor_checkpoint.set()  # noqa: SLF001
    assert answer is not None
    status = Dataset()
    status.Status = answer.Status
    status.MessageID = answer.MessageIDBeingRespondedTo
    return status


def creation(content: bytes | None, uid: str | None = None) -> N_CREATE:
    """An N-CREATE with these bytes."""
    primitive = N_CREATE()
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = PUSH, uid
    primitive.AttributeList = None if content is None else io.BytesIO(content)
    return primitive


def change(content: bytes | None, uid: str = "1.2.3", sop_class: str = PUSH) -> N_ACTION:
    """An N-ACTION that changes the state, with these bytes."""
    primitive = N_ACTION()
    primitive.RequestedSOPClassUID, primitive.RequestedSOPInstanceUID = sop_class, uid
    primitive.ActionTypeID = 1
    primitive.ActionInformation = None if content is None else io.BytesIO(content)
    return primitive


def setting(content: bytes | None) -> N_SET:
    """An N-SET with these bytes."""
    primitive = N_SET()
    primitive.RequestedSOPClassUID, primitive.RequestedSOPInstanceUID = PUSH, "1.2.3"
    primitive.ModificationList = None if content is None else io.BytesIO(content)
    return primitive


def encoded(dataset: Dataset) -> bytes:
    """A data set as Explicit VR Little Endian, which was agreed."""
    with io.BytesIO() as file:
        dataset.save_as(file, implicit_vr=False, little_endian=True)
        return file.getvalue()


@pytest.mark.parametrize("make", [creation, change, setting])
@pytest.mark.parametrize("content", [BROKEN, UNENDED, b"\x00", b"\xff" * 40])
def test_bytes_that_are_no_data_set(
    reader: Client, make: Callable[[bytes | None], N_CREATE | N_ACTION | N_SET], content: bytes
) -> None:
    """A failure, to that very message; then a good one succeeds."""
    assert reader.create(placed(), "1.2.3")[0] == 0
    answer = send(reader, make(content))
    assert answer.MessageID == 77
    assert answer.Status in {0x0105, 0x0115, 0x0120, 0xC301}, f"{answer.Status:04X}"
    assert reader.state("1.2.3") == "SCHEDULED"
    assert reader.change("1.2.3", "IN PROGRESS", generate_uid()) == 0


def test_a_creation_without_a_uid_is_told_which_it_has(reader: Client) -> None:
    """Affected SOP Instance UID is ours to give (PS3.7 10.1.5.1.4), with a modified step too."""
    for step in (placed(), placed(PatientName=None)):
        answer, _ = reader.association.send_n_create(step, PUSH, None)
        assert answer.Status == 0
        (found,) = reader.find(ProcedureStepState="SCHEDULED", SOPInstanceUID="")
        assert reader.act(found.SOPInstanceUID, 2) == 0


def test_a_change_of_state_that_says_nothing(reader: Client) -> None:
    """Neither with an empty data set, nor with one of other elements."""
    assert reader.create(placed(), "1.2.3")[0] == 0
    other = Dataset()
    other.PatientID = "P1"
    assert send(reader, change(encoded(other))).Status == 0x0115
    assert reader.state("1.2.3") == "SCHEDULED"


def test_any_of_the_classes_may_be_named(reader: Client) -> None:
    """Requests name the Push class; who names the one that was negotiated is understood."""
    for number, sop_class in enumerate(OFFERED):
        uid = f"1.2.{number}"
        assert reader.create(placed(), uid)[0] == 0
        action = Dataset()
        action.ProcedureStepState, action.TransactionUID = "IN PROGRESS", generate_uid()
        assert send(reader, change(encoded(action), uid, sop_class)).Status == 0
        assert reader.state(uid) == "IN PROGRESS"
