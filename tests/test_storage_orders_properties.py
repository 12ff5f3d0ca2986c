"""The rules of orders, whatever comes in whatever order."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import MORNING, prediction
from cxr_triage.model.priority import Level
from cxr_triage.storage.database import open_database
from cxr_triage.storage.order_records import (
    Candidate,
    Identity,
    Order,
    OrderSource,
    Verdict,
    counting,
    issuer,
    verdict,
)
from ordering import OTHER, PATIENT, STUDY, Desk, order

LEVELS = st.sampled_from(list(Level))
MINUTES = st.integers(0, 3)
#: Two studies, of one accession number or of two, each of one of two patients or of nobody known.
IMAGES = st.fixed_dictionaries(
    {
        "study": st.sampled_from([STUDY, OTHER]),
        "accession_number": st.sampled_from(["A", "B", ""]),
        "patient_id": st.sampled_from([PATIENT, "PAT-0002", ""]),
    }
)
ABOUT = st.builds(
    Identity,
    study_instance_uid=st.sampled_from(["", STUDY, OTHER]),
    accession_number=st.sampled_from(["A", "B"]),
    patient_id=st.sampled_from([PATIENT, "PAT-0002", ""]),
)
SAID = st.builds(
    lambda source, about, level, minutes: order(level, minutes=minutes, source=source, about=about),
    st.sampled_from([OrderSource.HL7, OrderSource.MWL]),
    ABOUT,
    LEVELS,
    MINUTES,
)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_in_whatever_order_messages_and_images_come_the_order_is_the_same(
    sqlite_url: str, tmp_path: Path, data: st.DataObject
) -> None:
    """And nothing is ever read later than ordered."""
    happenings: list[dict[str, str] | Order] = [
        *data.draw(st.lists(IMAGES, min_size=1, max_size=3)),
        *data.draw(st.lists(SAID, min_size=1, max_size=4)),
    ]
    came = [happenings, data.draw(st.permutations(happenings))]
    fresh, copy = Path(sqlite_url.removeprefix("sqlite:///")), tmp_path / "copy.db"
    ends = [_ordered(Path(shutil.copy(fresh, copy)), each) for each in came]
    assert ends[0] == ends[1]


def _ordered(path: Path, happenings: Sequence[dict[str, str] | Order]) -> dict[str, Level]:
    """Let things happen in a fresh ledger; how each study is ordered in the end."""
    database = open_database(f"sqlite:///{path}")
    try:
        desk = Desk(database)
        desk.steps.clock.move(timedelta(hours=1))
        for each in happenings:
            if isinstance(each, Order):
                desk.orders.record(each, desk.policy)
            else:
                desk.image(**each, issuer_of_patient_id="", patient_birth_date="", received_at=MORNING)
                desk.steps.scoring.record_scored(desk.steps.claim_to_score(), prediction(), desk.policy)
            listed = desk.steps.reading_list.studies()
            assert all(study.priority.effective <= study.ordered for study in listed)
        return {study.study_instance_uid: study.ordered for study in desk.steps.reading_list.studies()}
    finally:
        database.close()


CANDIDATES = st.lists(
    st.builds(
        Candidate,
        source=st.sampled_from(list(OrderSource)),
        sender=st.sampled_from(["RIS", "HIS"]),
        message_id=st.text(max_size=2),
        at=MINUTES.map(lambda minutes: MORNING + timedelta(minutes=minutes)),
        level=LEVELS,
        names_this=st.booleans(),
        number=st.integers(),
    ),
    min_size=1,
)


@given(CANDIDATES, st.randoms())
def test_which_order_counts_depends_on_no_order_of_arrival(candidates: list[Candidate], random: Random) -> None:
    """A person's before all others; of those of a RIS about one study, the newest, and never the less urgent of two."""
    chosen = counting(candidates)
    shuffled = random.sample(candidates, len(candidates))
    assert chosen == counting(shuffled)
    assert chosen is not None
    people = [each for each in candidates if each.source is OrderSource.PERSON]
    rivals = [each for each in people or candidates if each.names_this is chosen.names_this]
    assert chosen in (people or candidates)
    assert all(each.at <= chosen.at for each in rivals)
    if not people:
        assert all(each.level >= chosen.level for each in rivals if each.at == chosen.at)


def test_nothing_counts_where_nobody_ordered() -> None:
    """ROUTINE stays."""
    assert counting([]) is None


@given(ABOUT, st.lists(ABOUT, min_size=1, max_size=4))
def test_an_image_never_takes_away_what_another_one_confirmed(named: Identity, images: list[Identity]) -> None:
    """The more images, the more is known: an order that counts goes on counting."""
    known = [replace(image, study_instance_uid=STUDY) for image in images]
    found = [verdict(named, STUDY, known[:count]) for count in range(1, len(known) + 1)]
    assert found == sorted(found, key=[None, Verdict.OTHER_PATIENT, Verdict.UNCONFIRMED, Verdict.AGREES].index)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("RIS", "RIS", True),
        ("RIS", "", True),
        ("RIS", "PACS", False),
        (issuer("RIS", "1.2.3", "ISO"), "RIS", True),
        (issuer("RIS", "1.2.3", "ISO"), issuer("OTHER NAME", "1.2.3", "ISO"), True),
        (issuer("RIS", "1.2.3", "ISO"), issuer("RIS", "1.2.4", "ISO"), False),
        (issuer("", "1.2.3", "ISO"), "RIS", True),
    ],
)
def test_an_accession_number_is_the_same_by_the_same_issuer_only(one: str, other: str, same: bool) -> None:
    """By universal ID where both say it, else by name; what one does not say, nobody can compare."""
    named, image = (
        Identity(accession_number="A", issuer_of_accession_number=each, patient_id="P") for each in (one, other)
    )
    found = verdict(named, STUDY, [replace(image, study_instance_uid=STUDY)])
    assert found is (Verdict.AGREES if same else None)
    assert verdict(named, STUDY, []) is None
