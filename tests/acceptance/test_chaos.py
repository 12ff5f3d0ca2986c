"""Whatever process is killed, and whenever: nothing that was acknowledged is lost, and nothing is doubled."""

import gc
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.campaign import Campaign, Plan
from chaos.databases import DATABASES
from chaos.points.kill_points import AT_RETENTION, POINTS
from chaos.summary import table
from peers import REFUSED_CONNECTION

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(1500),
    # A modality meets a service that is down.
    pytest.mark.filterwarnings(REFUSED_CONNECTION),
]

AT_RANDOM = 20


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that Postgres can reach: when the tests run as root, it runs as another user."""
    made = Path(tempfile.mkdtemp(prefix="cxr-triage-chaos-"))
    yield made
    shutil.rmtree(made)
    gc.collect()  # what a modality left unclosed is collected here, where it is no error


@pytest.mark.parametrize("database", DATABASES)
def test_kills_lose_and_double_nothing(folder: Path, database: str) -> None:
    """A process dies at each named point, and any process twenty times at random: every invariant holds."""
    plan = Plan(database=database, kills=1, at_random=AT_RANDOM)
    said: list[str] = []
    state = Campaign(plan, folder, say=said.append).run()
    # How soon a C-ECHO is answered is for the long run on a machine of its own to judge.
    violations = [violation for violation in state.violations if "was answered after" not in violation]
    assert violations == [], "\n".join([*said, table({database: state})])
    assert sorted(state.at_points) == sorted(point.name for point in (*POINTS, AT_RETENTION))
    assert sum(state.at_random.values()) == AT_RANDOM
    assert state.acknowledged > 0
