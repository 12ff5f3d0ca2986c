"""What a run came to, as a table of Markdown that goes into the documentation as it is."""

from collections.abc import Mapping

from chaos.points.kill_points import AT_RETENTION, POINTS
from chaos.world import State

INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6")


def table(states: Mapping[str, State]) -> str:
    """Give the figures of each database's run, side by side."""
    rows = [("", *states), ("---", *("---" for _ in states))]
    rows += [(f"killed at `{point.name}`", *_of(states, "at_points", point.name)) for point in (*POINTS, AT_RETENTION)]
    roles = sorted({role for state in states.values() for role in state.at_random})
    rows += [(f"killed at random: {role}", *_of(states, "at_random", role)) for role in roles]
    rows += [
        ("kills", *(str(state.kills) for state in states.values())),
        ("rounds", *(str(state.rounds) for state in states.values())),
        ("images acknowledged", *(str(state.acknowledged) for state in states.values())),
        ("objects at the PACS, arrivals", *(f"{state.objects}, {state.arrivals}" for state in states.values())),
        ("C-ECHO, later than 1 s", *(f"{state.echoes}, {state.late_echoes}" for state in states.values())),
        ("slowest C-ECHO, s", *(f"{state.slowest_echo_seconds:.2f}" for state in states.values())),
        ("minutes", *(f"{state.seconds / 60:.0f}" for state in states.values())),
    ]
    rows += [(f"violations of {name}", *_violations(states, name)) for name in INVARIANTS]
    rows += [("other violations", *_others(states))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _of(states: Mapping[str, State], counts: str, name: str) -> list[str]:
    return [str(getattr(state, counts).get(name, 0)) for state in states.values()]


def _violations(states: Mapping[str, State], name: str) -> list[str]:
    return [str(sum(what.startswith(name) for what in state.violations)) for state in states.values()]


def _others(states: Mapping[str, State]) -> list[str]:
    return [str(sum(not what.startswith(INVARIANTS) for what in state.violations)) for state in states.values()]
