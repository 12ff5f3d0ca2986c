"""The simulation of the reading list: against queueing theory, a published vector, and cases worked out by hand."""

import json
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from cxr_triage.daemon.__main__ import app
from cxr_triage.daemon.simulation import closed_form
from cxr_triage.daemon.simulation.cases import Case, detectors, draw_cases
from cxr_triage.daemon.simulation.command import first_come_in_theory, load_of, play
from cxr_triage.daemon.simulation.figures import figures_of, simulate
from cxr_triage.daemon.simulation.reading_room import Read, read_all
from cxr_triage.daemon.simulation.scenario import Readers, Scenario, load_scenario
from cxr_triage.model.bundle import read_card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.findings import ABNORMALITY_BY_NAME, Finding
from cxr_triage.model.priority import Level, Mode, Policy

#: Nobody is overdue: the closed forms know of no such rule.
PATIENT = Policy(maximum_wait=dict.fromkeys(Level, timedelta(days=10_000)))
RNG = np.random.default_rng


def scenario(**changes: Any) -> Scenario:
    """Give FDA's multi-QuCAD example: one reader, load 0.8, reads of 5 minutes, 1 of 10 diseased, 0.9 and 0.9."""
    content: dict[str, Any] = {
        "runs": 16,
        "seed": 7,
        "traffic": {"studies": 20_000, "per_hour": 9.6},
        "findings": {
            "prevalence": {"Pneumothorax": 0.1},
            "operating_points": {"Pneumothorax": {"sensitivity": 0.9, "specificity": 0.9}},
            "by_card": False,
            "critical": ["Pneumothorax"],
            "scoring_seconds": 0,
        },
    }
    for name, value in changes.items():
        content[name] = content.get(name, {}) | value if isinstance(value, dict) else value
    return Scenario.model_validate(content)


def case(number: int, arrived: float, *, minutes: float = 10, ordered: Level = Level.ROUTINE, found: float = 0) -> Case:
    """Give a study; with a pneumothorax of this probability."""
    findings = (Finding(label="Pneumothorax", probability=found, threshold=0.5),) if found else ()
    return Case(
        number=number,
        arrived=arrived,
        ordered=ordered,
        reading_minutes=minutes,
        truth=frozenset({"Pneumothorax"} if found else ()),
        findings=findings,
    )


def order(read: Sequence[Read], cases: Sequence[Case]) -> list[int]:
    """Give the numbers of the studies in the order in which they were opened."""
    return sorted((each.number for each in cases), key=lambda number: cases[number].arrived + read[number].waited)


def test_the_published_vector_is_reproduced() -> None:
    """Mean waits by theory 20.000, 4.673, 23.364 and 6.542 minutes: each within its interval of 95 %, or a hair off."""
    example = scenario()
    kinds = figures_of(simulate(example, PATIENT, detectors(example, read_card(None))), example, PATIENT)["kinds"]
    for name, arm, expected in (
        ("all", "ordered", 20.000),
        ("all", "triaged", 20.000),
        ("flagged", "triaged", 4.673),
        ("not flagged", "triaged", 23.364),
        ("critical", "triaged", 6.542),
    ):
        wait = kinds[name][arm]["wait"]
        low, high = wait["mean_interval"]
        assert low - 0.02 * expected <= expected <= high + 0.02 * expected, (name, wait)
        assert (high - low) / expected < 0.15
    # Whoever is free reads something: the order moves waiting about, and makes none.
    assert kinds["all"]["ordered"]["wait"]["mean"] == pytest.approx(kinds["all"]["triaged"]["wait"]["mean"], rel=0.01)


def test_cobhams_formula_gives_the_vector() -> None:
    """And Erlang's, for several readers: two with 5 minutes each at a load of 0.8."""
    flagged = 0.9 * 0.1 + 0.1 * 0.9
    rate = 9.6 / 60
    first, second = closed_form.waits([rate * flagged, rate * (1 - flagged)], readers=1, minutes=5)
    assert [first, second] == pytest.approx([4.673, 23.364], abs=5e-4)
    assert 0.9 * first + 0.1 * second == pytest.approx(6.542, abs=5e-4)
    assert closed_form.waits([rate], readers=1, minutes=5) == [pytest.approx(20)]
    assert closed_form.waits([rate], readers=1, minutes=5, variation=0) == [pytest.approx(10)]
    # M/M/2 at load 0.8: C = 0.7111, wait = C x 5 / (2 x 0.2).
    assert closed_form.waits([2 * rate], readers=2, minutes=5) == [pytest.approx(8.889, abs=5e-4)]
    with pytest.raises(ValueError, match="without end"):
        closed_form.waits([0.2], readers=1, minutes=5)
    with pytest.raises(ValueError, match="exponential"):
        closed_form.waits([0.2], readers=2, minutes=5, variation=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"readers": {"number": 3, "minutes": 15}},
        {"readers": {"variation": 0.0}},
        {"readers": {"variation": 1.5, "minutes": 4}},
    ],
    ids=["three readers", "constant reading times", "varied reading times"],
)
def test_waiting_without_findings_is_what_theory_says(changes: dict[str, Any]) -> None:
    """Within the interval over the runs, or 3 %."""
    example = scenario(**changes)
    runs = simulate(example, PATIENT, detectors(example, read_card(None)))
    wait = figures_of(runs, example, PATIENT)["kinds"]["all"]["ordered"]["wait"]
    expected = first_come_in_theory(example)
    assert expected is not None
    low, high = wait["mean_interval"]
    assert low - 0.03 * expected <= expected <= high + 0.03 * expected


def test_a_flagged_study_is_read_next_and_an_open_one_never_moves() -> None:
    """The reader is busy with the first; the last of three is flagged. A STAT that was ordered is still before it."""
    cases = [case(0, 0), case(1, 1), case(2, 2), case(3, 3, found=0.9), case(4, 4, ordered=Level.STAT)]
    read = read_all(cases, readers=Readers(), policy=PATIENT, scoring_minutes=0)
    assert order(read, cases) == [0, 4, 3, 1, 2]
    assert [each.waited for each in read] == [0, 29, 38, 17, 6]
    assert [each.turnaround for each in read] == [10, 39, 48, 27, 16]
    shadow = read_all(cases, readers=Readers(), policy=Policy(mode=Mode.SHADOW), scoring_minutes=0)
    assert order(shadow, cases) == [0, 4, 1, 2, 3]


def test_findings_count_from_when_they_are_known() -> None:
    """Scored after the reader has chosen: too late."""
    cases = [case(0, 0), case(1, 1), case(2, 2, found=0.9), case(3, 3)]
    assert order(read_all(cases, readers=Readers(), policy=PATIENT, scoring_minutes=7.5), cases) == [0, 2, 1, 3]
    assert order(read_all(cases, readers=Readers(), policy=PATIENT, scoring_minutes=9), cases) == [0, 1, 2, 3]


def test_who_waited_too_long_is_read_before_what_is_flagged() -> None:
    """The live scheduler's rule: a ROUTINE study is overdue after five minutes here."""
    hasty = Policy(maximum_wait={Level.ROUTINE: timedelta(minutes=5)})
    cases = [case(0, 0), case(1, 1), case(2, 9, found=0.9)]
    assert order(read_all(cases, readers=Readers(), policy=hasty, scoring_minutes=0), cases) == [0, 1, 2]
    assert order(read_all(cases, readers=Readers(), policy=PATIENT, scoring_minutes=0), cases) == [0, 2, 1]


def test_readers_have_hours() -> None:
    """Nobody is there before one o'clock; then two are, and at two one finishes what he has open and goes."""
    shifts = Readers(by_hour=(0, 2, 1, *[0] * 21))
    cases = [case(0, 0, minutes=70), case(1, 5, minutes=70), case(2, 6, minutes=5), case(3, 7, minutes=5)]
    read = read_all(cases, readers=shifts, policy=PATIENT, scoring_minutes=0)
    assert [number.waited + each.arrived for number, each in zip(read, cases, strict=True)] == [60, 60, 130, 135]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 500), st.floats(0.1, 30), st.sampled_from(list(Level)), st.sampled_from([0.0, 0.5, 0.7, 0.95])
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 4),
)
def test_every_study_is_read_once_and_no_reader_is_idle_while_one_waits(
    drawn: list[tuple[float, float, Level, float]], number: int
) -> None:
    """Whatever comes, in whichever order: the work is that of a list without findings."""
    ordered = sorted(drawn, key=lambda row: row[0])
    cases = [
        case(place, arrived, minutes=minutes, ordered=level, found=found)
        for place, (arrived, minutes, level, found) in enumerate(ordered)
    ]
    read = read_all(cases, readers=Readers(number=number), policy=PATIENT, scoring_minutes=0)
    assert len(read) == len(cases)
    spans = [(each.arrived + one.waited, each.arrived + one.turnaround) for each, one in zip(cases, read, strict=True)]
    for each, (begun, _) in zip(cases, spans, strict=True):
        for other, _ in spans:
            if each.arrived <= other < begun:  # somebody took another study while this one waited
                # Minutes are sums: the end of one and the beginning of the next differ in the last digit.
                busy = sum(first <= other + 1e-6 < last for first, last in spans)
                assert busy == number
    assert all(one.waited >= 0 for one in read)


def test_arrivals_follow_the_hours_of_the_day() -> None:
    """All of a day's come in the two hours that have a weight, half as many in the second; each day anew."""
    weights = [0.0] * 24
    weights[8], weights[20] = 2.0, 1.0
    example = scenario(traffic={"studies": 3000, "per_hour": 10, "by_hour": weights})
    hours = [int(each.arrived // 60) % 24 for each in draw_cases(example, {}, RNG(1))]
    assert set(hours) == {8, 20}
    assert hours.count(8) / len(hours) == pytest.approx(2 / 3, abs=0.03)
    times = [each.arrived for each in draw_cases(example, {}, RNG(1))]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert times[-1] / 60 == pytest.approx(3000 / 10, rel=0.1)


def test_what_is_flagged_follows_the_operating_points_of_the_card() -> None:
    """Of 20,000 with and without effusion, the shares that the card states; probabilities lie above the threshold."""
    card = read_card(None)
    (label,) = [each for each in card.labels if each.name == "Effusion"]
    detector = detectors(Scenario(), card)["Effusion"]
    point = label.at(card.sensitivity)
    for present, share in ((True, point.sensitivity), (False, 1 - point.specificity)):
        random = RNG(3)
        drawn = np.array([detector.draw(random, present=present) for _ in range(20_000)])
        assert (drawn >= point.threshold).mean() == pytest.approx(share, abs=0.015)
        assert (drawn.min() >= 0, drawn.max() <= 1) == (True, True)


def test_the_same_seed_gives_the_same_figures() -> None:
    """To the last digit; another seed others."""
    small = {"runs": 2, "traffic": {"studies": 300}}
    card = read_card(None)
    one, same, other = (
        play(scenario(**small, seed=seed), PATIENT, card, error=Console(stderr=True)) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_a_site_s_own_arrivals(tmp_path: Path) -> None:
    """As they came; what the file does not say is drawn. A byte order mark and another order of columns are no harm."""
    (tmp_path / "arrivals.csv").write_text(
        "ordered,arrived_at,labels,reading_minutes\n"
        "ROUTINE,2026-03-01T08:15,Mass|Effusion,7.5\n"
        "STAT,2026-03-01T08:10:30,,\n"
        ",2026-03-02T00:00,,3\n",
        encoding="utf-8-sig",
    )
    (tmp_path / "site.toml").write_text(
        'runs = 2\n[traffic]\narrivals = "arrivals.csv"\nordered = { LOW = 1.0 }\n', encoding="utf-8"
    )
    played = load_scenario(tmp_path / "site.toml")
    cases = draw_cases(played, {}, RNG(1))
    assert [each.arrived for each in cases] == [490.5, 495.0, 1440.0]
    assert [each.ordered for each in cases] == [Level.STAT, Level.ROUTINE, Level.LOW]
    assert cases[1].truth == {"Mass", "Effusion"}
    assert [cases[1].reading_minutes, cases[2].reading_minutes] == [7.5, 3.0]
    assert (load_of(played), first_come_in_theory(played)) == (None, None)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("when\n2026-03-01\n", "unknown column 'when'"),
        ("ordered\nSTAT\n", "has no column arrived_at"),
        ("arrived_at\n2026-03-01T08:00\n", "fewer than two"),
        ("arrived_at\n2026-03-01T08:00\nyesterday\n", "line 3"),
        ("arrived_at,ordered\n2026-03-01T08:00,SOON\n2026-03-01T08:01,STAT\n", "line 2"),
        ("arrived_at,reading_minutes\n2026-03-01T08:00,-1\n2026-03-01T08:01,5\n", "reading_minutes = -1"),
        ("arrived_at\n2026-03-01T08:00+01:00\n2026-03-01T08:00Z\n", "several offsets"),
        ("arrived_at,labels\n2026-03-01T08:00,Flu\n2026-03-01T08:01,\n", "no label 'Flu'"),
    ],
)
def test_what_is_wrong_with_arrivals_is_said(tmp_path: Path, rows: str, complaint: str) -> None:
    """With the line, and what would be right."""
    (tmp_path / "arrivals.csv").write_text(rows, encoding="utf-8")
    example = scenario(traffic={"arrivals": tmp_path / "arrivals.csv"})
    with pytest.raises(ConfigurationError, match=complaint):
        draw_cases(example, {}, RNG(1))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("traffic = ", "is not TOML"),
        ("[traffic]\nper_hours = 3", "per_hour"),
        ("[traffic]\nby_hour = [1, 2]", "24 weights"),
        ("[traffic]\nordered = { SOON = 1.0 }", "SOON"),
        ("[readers]\nby_hour = [1]", "24 numbers"),
        ("[findings]\ncritical = ['Flu']", "no label 'Flu'"),
        ("[findings.operating_points.Mass]\nsensitivity = 2\nspecificity = 0.5", "sensitivity"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_said(tmp_path: Path, content: str, complaint: str) -> None:
    """In words."""
    (tmp_path / "site.toml").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=complaint):
        load_scenario(tmp_path / "site.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_scenario(tmp_path / "none.toml")


def test_a_list_that_grows_without_end_is_refused() -> None:
    """It has no mean wait."""
    busy = scenario(traffic={"per_hour": 13})
    with pytest.raises(ConfigurationError, match=r"load is 1\.08"):
        play(busy, PATIENT, read_card(None), error=Console(stderr=True))


def test_the_command_says_what_is_saved_and_the_worst_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table and a plot for a person, JSON for a machine, with the site's own policy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.toml").write_text("runs = 2\n[traffic]\nstudies = 400\n", encoding="utf-8")
    runner = CliRunner()
    shown = runner.invoke(app, ["simulate", "--scenario", "site.toml", "--plot", "waits.svg"])
    assert shown.exit_code == 0, shown.output
    assert "Per critical study" in shown.output
    assert "does not say what waiting does to patients" in " ".join(shown.output.split())
    assert "<svg" in (tmp_path / "waits.svg").read_text(encoding="utf-8")
    told = runner.invoke(app, ["simulate", "--scenario", "site.toml", "--json"])
    figures = json.loads(told.output)
    assert figures["kinds"]["critical"]["saved"]["mean"] > 0
    assert set(figures["flagged_by"]) == set(ABNORMALITY_BY_NAME)
    # Who only looks on asks what it would be like; another sensitivity flags others.
    (tmp_path / "shadow.toml").write_text('[worklist]\nmode = "shadow"\n', encoding="utf-8")
    shadow = runner.invoke(app, ["simulate", "--scenario", "site.toml", "--json", "--config", "shadow.toml"])
    assert json.loads(shadow.output) == figures
    (tmp_path / "sharp.toml").write_text("[model]\nsensitivity = 0.9\n", encoding="utf-8")
    sharp = runner.invoke(app, ["simulate", "--scenario", "site.toml", "--json", "--config", "sharp.toml"])
    assert json.loads(sharp.output)["flagged_by"]["Edema"]["sensitivity"] == pytest.approx(0.9, abs=0.02)
    assert figures["flagged_by"]["Edema"]["sensitivity"] == pytest.approx(0.5, abs=0.02)
