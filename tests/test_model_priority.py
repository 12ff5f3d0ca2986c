"""The order of the reading list: what a finding, an order and the waiting time may do, and what they may not."""

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_triage.model.findings import ABNORMALITIES, Finding
from cxr_triage.model.priority import (
    Level,
    Mode,
    Policy,
    Priority,
    Ranked,
    is_overdue,
    level_at,
    prioritise,
    rank,
    sort_key,
)

NOW = datetime(2026, 3, 1, 14, 2, tzinfo=UTC)
UNITS = st.floats(min_value=0.0, max_value=1.0)
FINDINGS = st.builds(
    Finding, label=st.sampled_from([a.name for a in ABNORMALITIES]), probability=UNITS, threshold=UNITS
)
POLICIES = st.builds(
    Policy,
    mode=st.sampled_from(Mode),
    raise_to=st.sampled_from([level for level in Level if level is not Level.STAT]),
    severity=st.dictionaries(st.sampled_from([a.name for a in ABNORMALITIES]), UNITS),
    maximum_wait=st.dictionaries(
        st.sampled_from(Level), st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=9))
    ),
)
ARRIVALS = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10)).map(lambda age: NOW - age)
ORDERS = st.sampled_from(Level)


@dataclass(frozen=True)
class WaitingStudy:
    """The least that can be ranked."""

    study_instance_uid: str
    arrived_at: datetime
    priority: Priority
    priority_without_findings: Priority
    claimed_at: datetime | None = None
    remarks: tuple[str, ...] = ()


def waiting_study(
    uid: str, ordered: Level, findings: list[Finding], policy: Policy, arrived_at: datetime = NOW
) -> WaitingStudy:
    """Prioritise a study under a policy."""
    return WaitingStudy(
        study_instance_uid=uid,
        arrived_at=arrived_at,
        priority=prioritise(findings, ordered=ordered, arrived_at=arrived_at, policy=policy),
        priority_without_findings=prioritise([], ordered=ordered, arrived_at=arrived_at, policy=policy),
    )


@st.composite
def lists(draw: st.DrawFn) -> tuple[list[WaitingStudy], Policy]:
    """A policy and up to eight studies under it."""
    policy = draw(POLICIES)
    number = draw(st.integers(min_value=0, max_value=8))
    studies = [
        replace(
            waiting_study(f"1.2.{i}", draw(ORDERS), draw(st.lists(FINDINGS, max_size=3)), policy, draw(ARRIVALS)),
            claimed_at=draw(st.none() | ARRIVALS),
        )
        for i in range(number)
    ]
    return studies, policy


def finding(label: str, probability: float = 0.8, threshold: float = 0.4) -> Finding:
    """A finding that is present unless told otherwise."""
    return Finding(label=label, probability=probability, threshold=threshold)


def uids(ranked: list[Ranked[WaitingStudy]]) -> list[str]:
    """The list as an order of UIDs."""
    return [place.study.study_instance_uid for place in ranked]


@given(st.lists(FINDINGS), ORDERS, ARRIVALS, POLICIES)
def test_no_study_is_ever_lowered(
    findings: list[Finding], ordered: Level, arrived_at: datetime, policy: Policy
) -> None:
    """Whatever is found and however long it waits, a study is read at its ordered level or a more urgent one."""
    priority = prioritise(findings, ordered=ordered, arrived_at=arrived_at, policy=policy)
    assert priority.effective <= ordered
    assert level_at(priority, now=NOW) <= priority.effective


@given(st.lists(FINDINGS), ORDERS, ARRIVALS, POLICIES)
def test_only_a_person_gives_stat(
    findings: list[Finding], ordered: Level, arrived_at: datetime, policy: Policy
) -> None:
    """Neither findings nor waiting make a study STAT that was not ordered so."""
    priority = prioritise(findings, ordered=ordered, arrived_at=arrived_at, policy=policy)
    assert (level_at(priority, now=NOW) is Level.STAT) == (ordered is Level.STAT)


@given(lists())
def test_no_finding_passes_an_ordered_stat(drawn: tuple[list[WaitingStudy], Policy]) -> None:
    """Studies ordered STAT keep, among all studies, the ranks that they have without findings."""
    studies, policy = drawn
    stat = [place for place in rank(studies, now=NOW, policy=policy) if place.study.priority.ordered is Level.STAT]
    assert [place.ordered_rank for place in stat] == [place.rank for place in stat]


@given(lists())
def test_overdue_is_overtaken_only_by_stat_and_by_longer_overdue(drawn: tuple[list[WaitingStudy], Policy]) -> None:
    """Everything that waits ahead of an overdue study is ordered STAT, or has been overdue for at least as long."""
    studies, policy = drawn
    waiting = [place for place in rank(studies, now=NOW, policy=policy) if place.study.claimed_at is None]
    for number, place in enumerate(waiting):
        if not place.overdue or place.study.priority.ordered is Level.STAT:
            continue
        for ahead in (each.study.priority for each in waiting[:number]):
            longer_overdue = is_overdue(ahead, now=NOW) and ahead.overdue_at <= place.study.priority.overdue_at
            assert ahead.ordered is Level.STAT or longer_overdue


@given(lists(), st.lists(FINDINGS, max_size=3), ORDERS, st.timedeltas(timedelta(0), timedelta(days=30)))
def test_whatever_arrives_overtakes_no_overdue_study_but_as_stat(
    drawn: tuple[list[WaitingStudy], Policy], findings: list[Finding], ordered: Level, later: timedelta
) -> None:
    """A study that comes now is read before an overdue one only where it was ordered STAT, whenever that is."""
    studies, policy = drawn
    newcomer = waiting_study("1.3", ordered, findings, policy, NOW)
    order = uids(_ranked([*studies, newcomer], later, policy))
    overdue = [each for each in studies if each.claimed_at is None and is_overdue(each.priority, now=NOW)]
    for study in overdue:
        if ordered is not Level.STAT:
            assert order.index(study.study_instance_uid) < order.index("1.3")


@given(lists(), st.data())
def test_a_claimed_study_never_moves(drawn: tuple[list[WaitingStudy], Policy], data: st.DataObject) -> None:
    """Neither findings, orders, newcomers nor time change who is ahead of it; only who is done leaves."""
    studies, policy = drawn
    claimed = [place.study for place in rank(studies, now=NOW, policy=policy) if place.study.claimed_at is not None]
    front = [study.study_instance_uid for study in claimed]
    assert uids(rank(studies, now=NOW, policy=policy))[: len(front)] == front
    changed = [
        replace(
            waiting_study(each.study_instance_uid, data.draw(ORDERS), data.draw(st.lists(FINDINGS)), policy, NOW),
            claimed_at=each.claimed_at,
        )
        for each in studies
    ]
    newcomer = waiting_study("1.3", Level.STAT, [], policy, NOW)
    later = data.draw(st.timedeltas(timedelta(0), timedelta(days=30)))
    assert uids(_ranked([*changed, newcomer], later, policy))[: len(front)] == front


@given(lists(), st.timedeltas(timedelta(0), timedelta(days=30)))
def test_time_changes_the_order_by_what_is_overdue_only(
    drawn: tuple[list[WaitingStudy], Policy], later: timedelta
) -> None:
    """Two instants with as many overdue studies have the same order: what a version of the list is built on."""
    studies, policy = drawn
    before, after = _ranked(studies, timedelta(0), policy), _ranked(studies, later, policy)
    waiting = [[place.overdue for place in ranked if place.study.claimed_at is None] for ranked in (before, after)]
    if sum(waiting[0]) == sum(waiting[1]):
        assert uids(before) == uids(after)


def _ranked(studies: list[WaitingStudy], later: timedelta, policy: Policy) -> list[Ranked[WaitingStudy]]:
    return rank(studies, now=NOW + later, policy=policy)


@given(st.lists(FINDINGS), ORDERS, POLICIES)
def test_a_pause_gives_the_ordered_level(findings: list[Finding], ordered: Level, policy: Policy) -> None:
    """Findings move nothing; shadow mode does not begin to show any."""
    paused = policy.without_moves()
    assert prioritise(findings, ordered=ordered, arrived_at=NOW, policy=paused).effective is ordered
    assert (paused.mode is Mode.SHADOW) == (policy.mode is Mode.SHADOW)


@given(st.lists(FINDINGS), FINDINGS, ORDERS, ARRIVALS, POLICIES)
def test_one_more_finding_never_moves_a_study_back(
    findings: list[Finding], another: Finding, ordered: Level, arrived_at: datetime, policy: Policy
) -> None:
    """The place with a further finding is the same or an earlier one."""
    before, after = (
        sort_key(
            prioritise(found, ordered=ordered, arrived_at=arrived_at, policy=policy),
            arrived_at=arrived_at,
            study_instance_uid="1.2",
            now=NOW,
            policy=policy,
        )
        for found in (findings, [*findings, another])
    )
    assert after <= before


@given(st.lists(FINDINGS), ORDERS, ARRIVALS, POLICIES)
def test_without_a_present_finding_the_order_stands(
    findings: list[Finding], ordered: Level, arrived_at: datetime, policy: Policy
) -> None:
    """Findings below their threshold leave everything as if the image had not been read."""
    absent = [item for item in findings if not item.present]
    unread = prioritise([], ordered=ordered, arrived_at=arrived_at, policy=policy)
    assert prioritise(absent, ordered=ordered, arrived_at=arrived_at, policy=policy) == unread
    assert unread.effective is ordered


@given(lists(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_how_studies_come_in(
    drawn: tuple[list[WaitingStudy], Policy], shuffler: random.Random
) -> None:
    """Any permutation of the same studies gives the same list: a total order."""
    studies, policy = drawn
    shuffled = shuffler.sample(studies, k=len(studies))
    assert rank(shuffled, now=NOW, policy=policy) == rank(studies, now=NOW, policy=policy)


@given(st.lists(FINDINGS), st.randoms(use_true_random=False), ORDERS, POLICIES)
def test_the_priority_does_not_depend_on_the_order_of_findings(
    findings: list[Finding], shuffler: random.Random, ordered: Level, policy: Policy
) -> None:
    """Level and utility are those of the set of findings."""
    shuffled = shuffler.sample(findings, k=len(findings))
    first, second = (
        prioritise(found, ordered=ordered, arrived_at=NOW, policy=policy) for found in (findings, shuffled)
    )
    assert (first.effective, first.utility) == (second.effective, second.utility)


@given(lists())
def test_ranks_count_from_one_without_gaps(drawn: tuple[list[WaitingStudy], Policy]) -> None:
    """Both ranks number every study once."""
    studies, policy = drawn
    ranked = rank(studies, now=NOW, policy=policy)
    numbers = list(range(1, len(studies) + 1))
    assert [place.rank for place in ranked] == numbers
    assert sorted(place.ordered_rank for place in ranked) == numbers


@given(lists())
def test_advice_and_shadow_leave_the_ordered_list(drawn: tuple[list[WaitingStudy], Policy]) -> None:
    """Where the network may not move studies, every rank is the ordered one."""
    studies, policy = drawn
    if policy.mode is Mode.REORDER:
        return
    ranked = rank(studies, now=NOW, policy=policy)
    assert [place.ordered_rank for place in ranked] == [place.rank for place in ranked]


def test_a_flagged_study_moves_up_and_says_why() -> None:
    """A routine study with a pneumothorax passes those that came earlier."""
    policy = Policy()
    early, late = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    studies = [
        waiting_study("1.1", Level.ROUTINE, [], policy, early),
        waiting_study("1.2", Level.ROUTINE, [finding("Pneumothorax", 0.83)], policy, late),
    ]
    ranked = rank(studies, now=NOW, policy=policy)
    assert uids(ranked) == ["1.2", "1.1"]
    assert (ranked[0].rank, ranked[0].ordered_rank, ranked[0].level) == (1, 2, Level.HIGH)
    expected = "Raised from ROUTINE to HIGH: Pneumothorax 0.830 (threshold 0.400, severity weight 1)."
    assert expected == ranked[0].reason
    assert ranked[1].reason == "Ordered ROUTINE; not prioritised."


def test_urgency_is_probability_times_severity() -> None:
    """A likely nodule waits behind a less likely pneumothorax."""
    policy = Policy()
    studies = [
        waiting_study("1.1", Level.ROUTINE, [finding("Nodule", 0.95)], policy),
        waiting_study("1.2", Level.ROUTINE, [finding("Pneumothorax", 0.60)], policy),
    ]
    assert uids(rank(studies, now=NOW, policy=policy)) == ["1.2", "1.1"]


def test_the_model_is_named_in_the_reason() -> None:
    """Who found it stands beside what was found."""
    priority = prioritise(
        [finding("Effusion")], ordered=Level.LOW, arrived_at=NOW, policy=Policy(), model="first 1.0.0"
    )
    expected = "Raised from LOW to HIGH: Effusion 0.800 (threshold 0.400, severity weight 0.8; model first 1.0.0)."
    assert expected == priority.reason


@pytest.mark.parametrize(
    ("ordered", "mode", "beginning"),
    [
        (Level.STAT, Mode.REORDER, "Ordered STAT, kept there (findings raise to HIGH at most): Mass"),
        (Level.HIGH, Mode.REORDER, "Ordered HIGH, moved ahead within it: Mass"),
        (Level.ROUTINE, Mode.ADVISE, "Ordered ROUTINE, kept there (advice only): Mass"),
        (Level.ROUTINE, Mode.SHADOW, "Ordered ROUTINE; not prioritised."),
    ],
)
def test_the_reason_names_the_rule(ordered: Level, mode: Mode, beginning: str) -> None:
    """Each rule has its words; shadow mode says nothing of findings."""
    priority = prioritise([finding("Mass")], ordered=ordered, arrived_at=NOW, policy=Policy(mode=mode))
    assert priority.reason.startswith(beginning)


def test_an_overdue_study_goes_first_and_says_so() -> None:
    """A low study past its wait passes flagged ones, not STAT."""
    policy = Policy()
    studies = [
        waiting_study("1.1", Level.ROUTINE, [finding("Pneumothorax", 0.99)], policy),
        waiting_study("1.2", Level.LOW, [], policy, NOW - timedelta(hours=73)),
        waiting_study("1.3", Level.STAT, [], policy),
    ]
    ranked = rank(studies, now=NOW, policy=policy)
    assert uids(ranked) == ["1.3", "1.2", "1.1"]
    expected = "Overdue: waited longer than 72 h as LOW, read first in HIGH. Ordered LOW; not prioritised."
    assert expected == ranked[1].reason


def test_a_weight_of_zero_mutes_a_label() -> None:
    """A site can keep one label from moving anything."""
    priority = prioritise(
        [finding("Hernia")], ordered=Level.ROUTINE, arrived_at=NOW, policy=Policy(severity={"Hernia": 0.0})
    )
    assert (priority.effective, priority.utility) == (Level.ROUTINE, 0.0)
    assert priority.reason == "Ordered ROUTINE; not prioritised: found, with a severity weight of 0: Hernia."


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("raise_to", Level.STAT, "only a person orders STAT"),
        ("severity", {"Pneumothorx": 1.0}, "severity names 'Pneumothorx'"),
        ("severity", {"Mass": 1.5}, "severity of Mass is 1.5"),
        ("severity", {"Mass": float("nan")}, "severity of Mass is nan"),
        ("maximum_wait", {Level.LOW: timedelta(0)}, "maximum_wait of LOW is 0:00:00"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(argument: str, value: object, message: str) -> None:
    """The message names what to change."""
    with pytest.raises(ValueError, match=message):
        Policy(**{argument: value})  # type: ignore[arg-type]


def test_the_digest_is_of_the_whole_policy() -> None:
    """A part left out counts as its default; any change gives another digest."""
    assert Policy(severity={"Pneumothorax": 1.0}, maximum_wait={}).digest() == Policy().digest()
    changed = [
        Policy(mode=Mode.ADVISE),
        Policy(raise_to=Level.ROUTINE),
        Policy(severity={"Mass": 0.9}),
        Policy(maximum_wait={Level.LOW: timedelta(hours=71)}),
    ]
    assert len({policy.digest() for policy in [Policy(), *changed]}) == len(changed) + 1
