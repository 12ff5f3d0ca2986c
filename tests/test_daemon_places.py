"""Places for associations: never more than there are, over all processes, and none lost with a process."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cxr_triage.daemon.places import Places
from cxr_triage.model.errors import StorageError
from peers import eventually

#: Takes what it can get of three places, says how many, and waits for its end.
OTHER = """
import sys
from pathlib import Path
from cxr_triage.daemon.places import Places
places = Places(3, Path(sys.argv[1]))
print(sum(places.take(holder) for holder in range(10)), flush=True)
sys.stdin.read()
"""


def _other(file: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _said(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.parametrize("shared", [True, False])
def test_a_place_has_one_holder(tmp_path: Path, *, shared: bool) -> None:
    """The next one finds none, until one is given back."""
    places = Places(2, tmp_path / "places" if shared else None)
    assert [places.take(holder) for holder in ("a", "b", "c")] == [True, True, False]
    places.give_back("c")
    assert not places.take("c")
    places.give_back("a")
    assert places.take("c")
    places.close()


def test_processes_share_the_places(tmp_path: Path) -> None:
    """What one holds, another does not get."""
    places = Places(3, tmp_path / "places")
    assert places.take("ours")
    with _other(tmp_path / "places") as other:
        assert _said(other) == 2
        assert not places.take("more")
        other.communicate()
    assert places.take("more")
    places.close()


def test_the_places_of_a_killed_process_are_free(tmp_path: Path) -> None:
    """Nobody has to find out that it died."""
    places = Places(3, tmp_path / "places")
    with _other(tmp_path / "places") as other:
        assert (_said(other), places.take("ours")) == (3, False)
        other.kill()
    assert [places.take(holder) for holder in range(4)] == [True, True, True, False]
    places.close()


def test_a_program_that_the_holder_starts_holds_nothing(tmp_path: Path) -> None:
    """The lock would outlive the association with it."""
    places = Places(3, tmp_path / "places")
    assert all(places.take(holder) for holder in range(3))
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE):
        places.close()
        with _other(tmp_path / "places") as other:
            assert _said(other) == 3
            other.communicate()


def test_threads_never_share_a_place(tmp_path: Path) -> None:
    """However many ask at the same time."""
    places = Places(7, tmp_path / "places")
    with ThreadPoolExecutor(16) as pool:
        for turn in range(20):
            taken = list(pool.map(places.take, [(turn, each) for each in range(16)]))
            assert sum(taken) == 7
            for each in range(16):
                places.give_back((turn, each))
    places.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before the port is served."""
    with pytest.raises(StorageError, match=r"cannot open .*missing"):
        Places(3, tmp_path / "missing" / "places")


def test_fewer_places_than_before_count_at_once(tmp_path: Path) -> None:
    """While receivers with an older configuration drain, those of the new one keep to the new cap."""
    older, newer = Places(5, tmp_path / "places"), Places(2, tmp_path / "places")
    assert all(older.take(holder) for holder in range(5))
    assert not newer.take("new")
    older.close()
    eventually(lambda: newer.take("new"))
    newer.close()
