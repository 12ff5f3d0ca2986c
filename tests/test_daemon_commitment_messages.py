"""The data sets of storage commitment: what we write we can read, and what others write cannot harm us."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pynetdicom.dsutils import decode, encode

from cxr_triage.daemon.commitment.messages import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    MAXIMUM_REFERENCES,
    PROCESSING_FAILURE,
    UnusableMessageError,
    read_report,
    read_request,
    report_data_set,
    request_data_set,
)
from cxr_triage.storage.commitment_records import CommitmentReport, Failure, Reference, in_words

IMAGE, OTHER = Reference("1.2.1", "1.2.3.4"), Reference("1.2.1", "1.2.3.5")
#: PS3.7 Annex C.
INVALID_ARGUMENT_VALUE, RESOURCE_LIMITATION = 0x0115, 0x0213


def sent(data_set: Dataset, *, implicit: bool) -> Dataset:
    """What arrives, in Implicit or Explicit VR Little Endian."""
    encoded = encode(data_set, implicit, is_little_endian=True)
    assert encoded is not None
    return decode(BytesIO(encoded), implicit, is_little_endian=True)


@pytest.mark.parametrize("implicit", [True, False])
def test_a_request_arrives_as_it_was_sent(implicit: bool) -> None:
    """In both transfer syntaxes of the context."""
    assert read_request(sent(request_data_set("1.2.9", [IMAGE, OTHER]), implicit=implicit)) == ("1.2.9", [IMAGE, OTHER])


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize(
    ("committed", "failed", "event_type"),
    [
        ((IMAGE, OTHER), (), ALL_COMMITTED),
        ((IMAGE,), (Failure(OTHER, 0x0112),), FAILURES_EXIST),
        ((), (Failure(IMAGE, 0x0119), Failure(OTHER, 0x0131)), FAILURES_EXIST),
    ],
)
def test_a_report_arrives_as_it_was_sent(
    implicit: bool, committed: tuple[Reference, ...], failed: tuple[Failure, ...], event_type: int
) -> None:
    """Its event type says whether there are failures (PS3.4 J.3.3.1.2)."""
    report = CommitmentReport(transaction_uid="1.2.9", committed=committed, failed=failed)
    sent_type, data_set = report_data_set(report)
    assert sent_type == event_type
    assert read_report(sent(data_set, implicit=implicit)) == report


def test_the_same_report_has_the_same_bytes() -> None:
    """However often it is repeated."""
    report = CommitmentReport(transaction_uid="1.2.9", committed=(IMAGE,), failed=(Failure(OTHER, 0x0112),))
    first, second = (encode(report_data_set(report)[1], is_implicit_vr=False, is_little_endian=True) for _ in range(2))
    assert first == second


def test_a_failure_without_a_reason_is_a_processing_failure() -> None:
    """The reason is type 1; a PACS that leaves it out has not committed all the same."""
    _, data_set = report_data_set(
        CommitmentReport(transaction_uid="1.2.9", committed=(), failed=(Failure(IMAGE, 0x0112),))
    )
    del data_set.FailedSOPSequence[0].FailureReason
    assert read_report(data_set).failed == (Failure(IMAGE, PROCESSING_FAILURE),)


def with_element(keyword: str, vr: str, value: object) -> Dataset:
    """Give a request of which one element is something else."""
    data_set = request_data_set("1.2.9", [IMAGE])
    tag = data_set[keyword].tag
    data_set[tag] = DataElement(tag, vr, value, validation_mode=0)
    return data_set


@pytest.mark.parametrize(
    ("data_set", "status"),
    [
        (Dataset(), INVALID_ARGUMENT_VALUE),
        (request_data_set("1.2.9", []), INVALID_ARGUMENT_VALUE),
        (request_data_set("1.2.9", [IMAGE, Reference("1.2.2", IMAGE.sop_instance_uid)]), INVALID_ARGUMENT_VALUE),
        (with_element("TransactionUID", "UI", "not a UID"), INVALID_ARGUMENT_VALUE),
        (with_element("TransactionUID", "UI", "1." + 64 * "2"), INVALID_ARGUMENT_VALUE),
        (with_element("TransactionUID", "UI", ["1.2", "1.3"]), INVALID_ARGUMENT_VALUE),
        (with_element("TransactionUID", "UI", None), INVALID_ARGUMENT_VALUE),
        (with_element("ReferencedSOPSequence", "LO", "text"), INVALID_ARGUMENT_VALUE),
        (request_data_set("1.2.9", [IMAGE] * (MAXIMUM_REFERENCES + 1)), RESOURCE_LIMITATION),
    ],
)
def test_an_unusable_request_is_answered_with_its_fault(data_set: Dataset, status: int) -> None:
    """And nothing of it is used."""
    with pytest.raises(UnusableMessageError) as refused:
        read_request(data_set)
    assert refused.value.status == status


@given(st.binary(max_size=200), st.booleans())
def test_hostile_bytes_are_refused_by_name(content: bytes, implicit: bool) -> None:
    """Whatever comes: a message, or the one error that says what its sender is answered."""
    try:
        data_set = decode(BytesIO(content), implicit, is_little_endian=True)
    except Exception:  # noqa: BLE001 - what decoding itself refuses is refused before us
        return
    with pytest.raises(UnusableMessageError):
        read_request(data_set)


def test_reasons_are_said_in_words() -> None:
    """With their number, by which a vendor knows them."""
    assert in_words(0x0112) == "no such object instance (0112H)"
    assert in_words(0xA801) == "failure reason (A801H)"
