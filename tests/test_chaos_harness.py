"""The chaos run itself: it goes on where it stopped, one process dies per token, and each point is in the code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from chaos.points import kill_points
from chaos.points.kill_points import AT_RETENTION, POINTS, TOKENS_VARIABLE, Tokens, require_points
from chaos.summary import table
from chaos.world import JsonLines, World
from daemons import lives
from journal import Sent
from vitals import Vitals

POINTS_FOLDER = Path(kill_points.__file__).parent
#: Comes by a point of the role `receive` twice: with the module's own function, it ends with 0.
COME_BY = """
import sys
from cxr_triage.storage.ledger import Intake
from unittest.mock import MagicMock
sys.argv = ["serve", "--role", sys.argv[1]]
for _ in range(2):
    Intake(MagicMock()).record_received(MagicMock())
"""


def come_by(tokens: Path, role: str) -> int:
    """Run a process of a role past a point; how it ended."""
    environment = {**os.environ, "PYTHONPATH": str(POINTS_FOLDER), TOKENS_VARIABLE: str(tokens)}
    return subprocess.run([sys.executable, "-c", COME_BY, role], env=environment, check=False).returncode


def test_each_point_is_in_the_code() -> None:
    """A function that was renamed is missed at once: nobody would die there any more."""
    require_points()
    assert len({point.name for point in (*POINTS, AT_RETENTION)}) == len(POINTS) + 1


def test_one_process_dies_per_token(tmp_path: Path) -> None:
    """The first of the point's role that comes by; nobody else, and nobody without a token."""
    tokens = Tokens(tmp_path)
    tokens.prepare()
    [point] = [point for point in POINTS if point.name == "after_rename_before_commit"]
    assert come_by(tmp_path, "receive") == 0
    tokens.arm(point)
    assert come_by(tmp_path, "upkeep") == 0
    assert come_by(tmp_path, "receive") == -signal.SIGKILL
    assert come_by(tmp_path, "receive") == 0
    assert [name for name, _ in tokens.collect()] == [point.name]
    assert tokens.collect() == []


def test_token_that_was_taken_back_kills_nobody(tmp_path: Path) -> None:
    """Taking it back tells whether it was still there."""
    tokens = Tokens(tmp_path)
    tokens.prepare()
    tokens.arm(POINTS[0])
    assert tokens.disarm(POINTS[0])
    assert not tokens.disarm(POINTS[0])
    assert not tokens.take(POINTS[0], 1)


def test_who_is_dead_is_not_killed_again() -> None:
    """A killed process that nobody has buried would count as a kill for ever."""
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as process:
        assert lives(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{process.pid}").exists()
        assert not lives(process.pid)
    assert not lives(process.pid)


def test_world_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Counts, baseline, violations, and both ledgers of the modality."""
    world = World(tmp_path, seed=7)
    world.state.at_points["mid_p_data"] = 2
    world.state.at_random["infer"] = 3
    world.state.baseline["infer"] = Vitals(threads=1, handles=2, resident_bytes=3)
    assert world.state.blame(["I1 one", "I1 one"]) == ["I1 one"]
    world.acknowledged.append(Sent("1.2", "ab"))
    world.save()
    again = World(tmp_path, seed=8)
    assert again.state == world.state
    assert again.state.kills == 5
    assert again.state.blame(["I1 one"]) == []
    assert again.sent(again.acknowledged) == {Sent("1.2", "ab")}
    assert "| kills | 5 |" in table({"sqlite": again.state})


def test_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    """Whoever was killed while writing it had told nobody; the next line begins on its own."""
    file = tmp_path / "lines.jsonl"
    JsonLines(file).append(["1.2", "ab"])
    with file.open("a") as cut:
        cut.write('["1.3", "a')
    lines = JsonLines(file)
    lines.append(["1.4", "cd"])
    assert list(lines) == [["1.2", "ab"], ["1.4", "cd"]]
