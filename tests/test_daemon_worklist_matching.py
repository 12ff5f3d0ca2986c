"""Identifiers against entries: what is asked of which attribute, what is given back, and what breaks a rule."""

import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from cxr_triage.daemon.worklist.catalogue import DATASETS
from cxr_triage.daemon.worklist.matching import IdentifierError, Query, matches, select
from cxr_triage.daemon.worklist.negotiated import Agreed
from cxr_triage.daemon.worklist.version_words import place_in_words
from listings import NOW, VERSION, known, listed_study


def identifier(**keys: object) -> Dataset:
    """Make a query, whose values may be such as no data set may have."""
    asked = Dataset()
    for keyword, value in keys.items():
        asked.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=config.IGNORE))
    return asked


def step_identifier(**keys: object) -> Dataset:
    """Make a query for a step."""
    return identifier(ScheduledProcedureStepSequence=[identifier(**keys)])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"PatientID": ""}, True),
        ({"PatientID": "*"}, True),
        ({"PatientID": "PAT-000?"}, True),
        ({"PatientID": "PAT-0002"}, False),
        ({"PatientName": "muster^erika", "PatientID": "PAT-0001"}, True),
        ({"PatientName": "muster^erika", "PatientID": "PAT-0002"}, False),
        ({"StudyInstanceUID": ["1.2.9", "1.2.1"]}, True),
        ({"StudyDate": "20240301-20240304"}, True),
        # Only the start of the step is combined: both of these match by themselves.
        ({"StudyDate": "20240304-20240305", "StudyTime": "0700-0800"}, True),
        ({"StudyDate": "20240303-20240304", "StudyTime": "0800-0900"}, False),
        ({"RequestedProcedurePriority": "ROUTINE"}, True),
        ({"RequestedProcedurePriority": ["STAT", "HIGH"]}, False),
        ({"MedicalAlerts": "LATEX"}, False),
        # A key that no entry has does not decide.
        ({"InstitutionName": "ELSEWHERE"}, True),
        # Nor does what describes the query.
        ({"SpecificCharacterSet": "ISO_IR 100", "TimezoneOffsetFromUTC": "+0100"}, True),
    ],
)
def test_matching_of_study_keys(keys: dict[str, object], expected: bool) -> None:
    """PS3.4 C.2.2.2: every key has to match."""
    assert matches(identifier(**keys), known(listed_study("1.2.1"))) is expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"ScheduledStationAETitle": "READER"}, True),
        ({"ScheduledStationAETitle": "READ*", "Modality": "DX"}, True),
        ({"ScheduledStationAETitle": "OTHER"}, False),
        ({"ScheduledStationAETitle": "READER", "Modality": "CT"}, False),
        ({"ScheduledProcedureStepStartDate": "20240304"}, True),
        ({"ScheduledProcedureStepStartTime": "0700-0755"}, True),
        ({"ScheduledProcedureStepStartDate": "20240304", "ScheduledProcedureStepStartTime": "0800-"}, False),
        # Both are ranges: PS3.4 Table K.6-1.
        ({"ScheduledProcedureStepStartDate": "20240303-", "ScheduledProcedureStepStartTime": "1800-"}, True),
        ({"ScheduledProcedureStepStartDate": "20240304-", "ScheduledProcedureStepStartTime": "1800-"}, False),
        ({}, True),
    ],
)
def test_matching_of_the_step(keys: dict[str, object], expected: bool) -> None:
    """A station that asks for its own steps sees the list; for another's, nothing."""
    assert matches(step_identifier(**keys), known(listed_study("1.2.1"))) is expected


def of_two_codes() -> Dataset:
    """Give an entry that has a sequence of two items."""
    codes = [identifier(CodeValue=value, CodingSchemeDesignator="DCM") for value in ("1", "2")]
    return identifier(ProcedureCodeSequence=codes, ReferencedStudySequence=[])


@pytest.mark.parametrize(
    ("step", "study", "expected"),
    [
        ("20240303-20240305", "20240303-20240305", True),
        ("20240303-20240305", "20240305-20240306", False),
        ("20240305-20240306", "20240303-20240305", False),
    ],
)
def test_two_combined_ranges_do_not_mix(step: str, study: str, expected: bool) -> None:
    """Those of the step and, as agreed, those of the study: each is matched with its own."""
    asked = identifier(
        ScheduledProcedureStepStartDate=step,
        ScheduledProcedureStepStartTime="1800-0600",
        StudyDate=study,
        StudyTime="18-06",
    )
    entry = identifier(
        ScheduledProcedureStepStartDate="20240304",
        ScheduledProcedureStepStartTime="12",
        StudyDate="20240304",
        StudyTime="12",
    )
    assert Query(asked, DATASETS, agreed=Agreed(combined=True)).matches(entry) is expected


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"CodeValue": "2"}, True),
        ({"CodeValue": "2", "CodingSchemeDesignator": "DCM"}, True),
        # In one item, not one in each.
        ({"CodeValue": "2", "CodingSchemeDesignator": "SCT"}, False),
        ({"CodeValue": ""}, True),
        ({}, True),
    ],
)
def test_matching_of_a_sequence(item: dict[str, object], expected: bool) -> None:
    """PS3.4 C.2.2.2.6: at least one item that matches by all keys."""
    assert matches(identifier(ProcedureCodeSequence=[identifier(**item)]), of_two_codes()) is expected


@pytest.mark.parametrize(("wanted", "expected"), [("", True), ("1.2.3", False)])
def test_matching_of_a_sequence_without_items(wanted: str, expected: bool) -> None:
    """There is nothing that could match, unless whatever there is does."""
    asked = identifier(ReferencedStudySequence=[identifier(ReferencedSOPInstanceUID=wanted)])
    assert matches(asked, of_two_codes()) is expected
    assert matches(asked, known(listed_study("1.2.1"))) is expected


def test_the_items_that_match_are_given_back() -> None:
    """PS3.4 C.2.2.2.6: only those, with what was asked for; all of them where nothing was."""
    asked = identifier(ProcedureCodeSequence=[identifier(CodeValue="2")])
    (item,) = select(asked, of_two_codes())[0].ProcedureCodeSequence
    assert [(each.keyword, each.value) for each in item] == [("CodeValue", "2")]
    whole = select(identifier(ProcedureCodeSequence=[]), of_two_codes())[0]
    assert whole.ProcedureCodeSequence == of_two_codes().ProcedureCodeSequence


def test_unknown_keys_are_left_out_and_said() -> None:
    """A key that we do not support is not answered, and the status tells so, also in an item."""
    answer, complete = select(identifier(PatientID="", InstitutionName=""), known(listed_study("1.2.1")))
    assert (answer.PatientID, "InstitutionName" in answer, complete) == ("PAT-0001", False, False)
    assert select(identifier(PatientID=""), known(listed_study("1.2.1")))[1]
    assert not select(step_identifier(InstitutionName=""), known(listed_study("1.2.1")))[1]


def test_an_entry_says_its_place_and_the_version() -> None:
    """In the words that every face has, and since when."""
    (step,) = known(listed_study("1.2.1")).ScheduledProcedureStepSequence
    assert step.CommentsOnTheScheduledProcedureStep == place_in_words(1, VERSION) == "Rank 1 of list version 7.1."
    assert step.ScheduledProcedureStepModificationDateTime == NOW.astimezone().strftime("%Y%m%d%H%M%S.%f%z")


@pytest.mark.parametrize(
    ("asked", "offending"),
    [
        (identifier(StudyDate="yesterday"), "StudyDate"),
        (identifier(StudyInstanceUID="1.2.*"), "StudyInstanceUID"),
        (step_identifier(ScheduledProcedureStepStartTime="25"), "ScheduledProcedureStepStartTime"),
        (
            step_identifier(
                ScheduledProcedureStepStartDate="20240304-20240303", ScheduledProcedureStepStartTime="07-08"
            ),
            "ScheduledProcedureStepStartDate",
        ),
        (identifier(ScheduledProcedureStepSequence=[Dataset(), Dataset()]), "ScheduledProcedureStepSequence"),
        (identifier(TimezoneOffsetFromUTC="CET"), "TimezoneOffsetFromUTC"),
        (identifier(TransferSyntaxUID="1.2"), "TransferSyntaxUID"),
        # Also of an attribute that no entry has.
        (identifier(AcquisitionDate="yesterday"), "AcquisitionDate"),
    ],
)
def test_what_breaks_a_rule_is_named(asked: Dataset, offending: str) -> None:
    """The offending element, and a comment of 64 characters at most."""
    with pytest.raises(IdentifierError, match=r"^.{5,64}$") as caught:
        matches(asked, known(listed_study("1.2.1")))
    assert caught.value.tag == Tag(tag_for_keyword(offending) or 0)
