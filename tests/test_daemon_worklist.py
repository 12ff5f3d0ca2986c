"""The modality worklist against DCMTK: order, matching, and what is answered."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from pydicom import config

from builders import MORNING, finding
from cxr_triage.model.errors import StorageError
from cxr_triage.model.priority import Level
from cxr_triage.storage.list_records import ListedStudy
from listings import known, listed_study, listing
from peers import findscu


def test_a_study_is_seen_to_move_up(tmp_path: Path) -> None:
    """Once a finding is in, the next query has the study at the front, with its priority and the reason."""
    before = [listed_study("1.2.1", minutes=1), listed_study("1.2.2", minutes=2), listed_study("1.2.3", minutes=3)]
    studies = list(before)
    keys = ("StudyInstanceUID", "RequestedProcedurePriority", "RequestedProcedureComments")
    with listing(lambda: studies) as port:
        _, first = findscu(port, *keys, folder=tmp_path / "first")
        studies[2] = listed_study("1.2.3", finding("Pneumothorax", 0.83), minutes=3)
        _, second = findscu(port, *keys, folder=tmp_path / "second")
    assert [answer.StudyInstanceUID for answer in first] == ["1.2.1", "1.2.2", "1.2.3"]
    assert [answer.StudyInstanceUID for answer in second] == ["1.2.3", "1.2.1", "1.2.2"]
    assert [answer.RequestedProcedurePriority for answer in second] == ["HIGH", "ROUTINE", "ROUTINE"]
    assert second[0].RequestedProcedureComments.startswith("Raised from ROUTINE to HIGH: Pneumothorax 0.830")
    assert second[1].RequestedProcedureComments == "Ordered ROUTINE; not prioritised."


def test_every_priority_has_its_term(tmp_path: Path) -> None:
    """The five defined terms of Requested Procedure Priority, in their order."""
    studies = [listed_study(f"1.2.{level.value}", ordered=level) for level in reversed(Level)]
    with listing(lambda: studies) as port:
        _, answers = findscu(port, "RequestedProcedurePriority", folder=tmp_path)
    assert [answer.RequestedProcedurePriority for answer in answers] == ["STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW"]


def test_a_usual_query_is_answered_in_full(tmp_path: Path) -> None:
    """Patient, study and step, in Unicode; return keys that nobody told us come back empty."""
    study = listed_study("1.2.1", patient_name="Müller^Jürgen=山田^太郎", study_description="Thorax für HNO")
    with listing(lambda: [study]) as port:
        finished, answers = findscu(
            port,
            *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyInstanceUID"),
            *("RequestedProcedureID", "ReferringPhysicianName", "MedicalAlerts", "ReferencedStudySequence"),
            "ScheduledProcedureStepSequence[0].ScheduledStationAETitle=READER",
            "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20240301-20240331",
            "ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartTime",
            "ScheduledProcedureStepSequence[0].Modality=DX",
            "ScheduledProcedureStepSequence[0].ScheduledProcedureStepID",
            "ScheduledProcedureStepSequence[0].ScheduledProcedureStepDescription",
            "ScheduledProcedureStepSequence[0].ScheduledPerformingPhysicianName",
            folder=tmp_path,
        )
    assert finished.returncode == 0
    (answer,) = answers
    assert answer.SpecificCharacterSet == "ISO_IR 192"
    assert str(answer.PatientName) == "Müller^Jürgen=山田^太郎"
    assert (answer.PatientID, answer.PatientBirthDate, answer.PatientSex) == ("PAT-0001", "19640812", "F")
    assert (answer.AccessionNumber, answer.RequestedProcedureID) == ("ACC-0001", "S-1")
    assert (answer.MedicalAlerts, list(answer.ReferencedStudySequence)) == ("", [])
    (step,) = answer.ScheduledProcedureStepSequence
    assert (step.ScheduledStationAETitle, step.Modality) == ("READER", "DX")
    assert (step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime) == ("20240304", "075500")
    assert step.ScheduledProcedureStepDescription == "Thorax für HNO"
    assert len(step.ScheduledProcedureStepID) == 16


def test_a_step_sequence_without_keys_comes_back_whole(tmp_path: Path) -> None:
    """PS3.4 C.2.2.2.6: an empty sequence asks for all of it."""
    with listing(lambda: [listed_study("1.2.1")]) as port:
        _, (answer,) = findscu(port, "ScheduledProcedureStepSequence", folder=tmp_path)
    assert "Modality" in answer.ScheduledProcedureStepSequence[0]


def test_keys_inside_a_sequence_that_is_empty(tmp_path: Path) -> None:
    """Stations ask for the items of Referenced Study Sequence, which nobody has told us: it comes back empty."""
    keys = ("StudyInstanceUID", "ReferencedStudySequence[0].ReferencedSOPInstanceUID")
    with listing(lambda: [listed_study("1.2.1")]) as port:
        _, answers = findscu(port, *keys, folder=tmp_path)
    assert [(answer.StudyInstanceUID, list(answer.ReferencedStudySequence)) for answer in answers] == [("1.2.1", [])]


def test_dcmtk_filters(tmp_path: Path) -> None:
    """A wildcard in a name leaves the others out."""
    studies = [listed_study("1.2.1", patient_name="Muster^Erika"), listed_study("1.2.2", patient_name="Beispiel^Otto")]
    with listing(lambda: studies) as port:
        _, answers = findscu(port, "PatientName=BEI*", "StudyInstanceUID", folder=tmp_path)
    assert [answer.StudyInstanceUID for answer in answers] == ["1.2.2"]


def test_an_empty_list_is_success(tmp_path: Path) -> None:
    """No study waits: no answer, no error."""
    with listing(list) as port:
        finished, answers = findscu(port, "PatientName", folder=tmp_path)
    assert (finished.returncode, answers) == (0, [])


def test_a_missing_ledger_is_said(tmp_path: Path) -> None:
    """A station must not take a failure for an empty list."""

    def fail() -> Sequence[ListedStudy]:
        raise StorageError("the database is away")

    with listing(fail) as port:
        finished, answers = findscu(port, "PatientName", folder=tmp_path)
    assert answers == []
    assert "OutOfResources" in finished.stdout + finished.stderr


def test_only_listed_stations_are_answered(tmp_path: Path) -> None:
    """Patient data goes to whom the site has named."""
    with listing(lambda: [listed_study("1.2.1")], allowed_ae_titles=("READER",)) as port:
        stranger, nothing = findscu(port, "PatientName", calling="STRANGER", folder=tmp_path / "stranger")
        _, answers = findscu(port, "PatientName", calling="READER", folder=tmp_path / "reader")
    assert stranger.returncode != 0
    assert nothing == []
    assert len(answers) == 1


def test_oddities_of_the_image_are_passed_on(tmp_path: Path) -> None:
    """Values that break the standard's rules come back as they were, without a warning that quotes them."""
    study = listed_study("1.2.1", patient_id="X" * 70, patient_birth_date="1964?", study_date="", study_time="")
    with listing(lambda: [study]) as port:
        _, (answer,) = findscu(port, "PatientID", "PatientBirthDate", folder=tmp_path)
    with config.disable_value_validation():
        assert (answer.PatientID, answer.PatientBirthDate) == ("X" * 70, "1964?")


def test_a_missing_study_date_becomes_the_time_of_arrival() -> None:
    """The start of the step is of type 1: never empty."""
    step = known(listed_study("1.2.1", study_date="", study_time="")).ScheduledProcedureStepSequence[0]
    local = MORNING.astimezone()
    assert step.ScheduledProcedureStepStartDate == local.strftime("%Y%m%d")
    assert step.ScheduledProcedureStepStartTime == local.strftime("%H%M%S")


def test_an_identifier_of_a_missing_id_stays_the_same() -> None:
    """Type 1 identifiers are made up from the study, not from its place."""
    study = listed_study("1.2.1", study_id="")
    moved = dataclasses.replace(study, arrived_at=MORNING + timedelta(hours=3))
    assert known(study).RequestedProcedureID == known(moved).RequestedProcedureID != ""
