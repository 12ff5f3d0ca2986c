"""What a RIS's modality worklist is asked about a study, and what its answers order (PS3.4 Annex K): pure functions."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from cxr_triage.daemon.indexing import issuer_of_accession_number
from cxr_triage.daemon.worklist.identifiers import reading_id
from cxr_triage.model.header import items, quiet_pydicom, text
from cxr_triage.model.priority import Level
from cxr_triage.storage.order_records import Identity, Order, OrderSource, verdict

#: SH holds 16 characters (PS3.5 6.2); * and ? would ask for other numbers too (PS3.4 C.2.2.2.4).
_ACCESSION_CHARACTERS: Final = 16
_NOT_ASKED: Final = frozenset("*?\\")
#: Return keys that decide; the patient's name is not asked for. PS3.4 Table K.6-1.
RETURN_KEYS: Final = (
    "AccessionNumber",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "RequestedProcedureID",
    "RequestedProcedurePriority",
)
ISSUER_KEYS: Final = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")
STEP_KEYS: Final = ("Modality", "ScheduledProcedureStepStartDate", "ScheduledProcedureStepID")


def questions(about: Identity) -> Iterator[Dataset]:
    """Give the identifiers to ask with, in turn until one is answered: by Study Instance UID, by Accession Number."""
    yield _identifier(StudyInstanceUID=about.study_instance_uid)
    number = about.accession_number
    if 0 < len(number) <= _ACCESSION_CHARACTERS and number.isascii() and not _NOT_ASKED & set(number):
        yield _identifier(AccessionNumber=number)


def orders(answers: Iterable[Dataset], about: Identity, *, ris: str, at: datetime) -> list[Order]:
    """Read what a RIS orders for a study from entries of its worklist.

    An entry that is about another study is left out: some match by fewer keys than they are asked by. So is one of our
    own list, which may come back by way of a broker. One without one of the defined terms of Requested Procedure
    Priority (PS3.3 C.4.11) is no answer.

    Args:
        answers: the entries; whatever came, nothing in them is trusted.
        about: the study.
        ris: AE title that answered.
        at: when, UTC.
    """
    with quiet_pydicom():
        found = [_order(answer, ris=ris, at=at) for answer in answers if not _is_ours(answer)]
    return [order for order in found if order is not None and verdict(order.about, about.study_instance_uid, [about])]


def _order(answer: Dataset, *, ris: str, at: datetime) -> Order | None:
    level = Level.__members__.get(text(answer, "RequestedProcedurePriority").upper())
    about = Identity(
        study_instance_uid=text(answer, "StudyInstanceUID"),
        accession_number=text(answer, "AccessionNumber"),
        issuer_of_accession_number=issuer_of_accession_number(answer),
        patient_id=text(answer, "PatientID"),
        issuer_of_patient_id=text(answer, "IssuerOfPatientID"),
        patient_birth_date=text(answer, "PatientBirthDate"),
    )
    if level is None or not (about.study_instance_uid or about.accession_number):
        return None
    return Order(
        source=OrderSource.MWL, sender=ris, message_id=_message_id(about, level), at=at, about=about, level=level
    )


def _is_ours(answer: Dataset) -> bool:
    ours = reading_id(text(answer, "StudyInstanceUID"))
    return any(
        text(step, "ScheduledProcedureStepID") == ours for step in items(answer, "ScheduledProcedureStepSequence")
    )


def _message_id(about: Identity, level: Level) -> str:
    """An entry has no identity of its own: the same content again is the same message. Tells nobody of the patient."""
    return hashlib.sha256(repr((about, level.name)).encode()).hexdigest()


def _identifier(**key: str) -> Dataset:
    """Ask by one key, and for everything that decides."""
    asked = _dataset(**dict.fromkeys(RETURN_KEYS, "") | key)
    for sequence, keywords in (
        ("IssuerOfAccessionNumberSequence", ISSUER_KEYS),
        ("ScheduledProcedureStepSequence", STEP_KEYS),
    ):
        asked.add(_element(sequence, [_dataset(**dict.fromkeys(keywords, ""))]))
    return asked


def _dataset(**values: str) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        made.add(_element(keyword, value))
    return made


def _element(keyword: str, value: object) -> DataElement:
    """Take a value as the image has it: what is odd there is compared as it is, and not quoted in a warning."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)
