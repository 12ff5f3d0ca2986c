"""`cxr-triage demo --json` as a user runs it, each of its statements held against what is on disk."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from daemons import chest_radiographs, descendants, radiographs, wait_until
from journal import references

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

DCIODVFY = Path(sys.executable).with_name("dciodvfy")
LEVELS = ["STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished demo."""

    returncode: int
    result: dict[str, Any]
    stdout: str
    folder: Path


def demo_command(folder: Path, *options: str) -> list[str]:
    """Give the command line of a demo that writes below `folder`."""
    return [sys.executable, "-m", "cxr_triage.daemon", "demo", "--json", "--output", str(folder), *options]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the demo once for all tests here."""
    folder = tmp_path_factory.mktemp("demo") / "output"
    done = subprocess.run(demo_command(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Run(
        returncode=done.returncode, result=json.loads(done.stdout.splitlines()[-1]), stdout=done.stdout, folder=folder
    )


def test_json_is_all_that_standard_output_says(run: Run) -> None:
    """One line, and nothing beside it."""
    assert len(run.stdout.splitlines()) == 1


def test_every_file_was_pushed_and_acknowledged(run: Run) -> None:
    """Also the broken one and the one that is no chest."""
    assert run.result["pushed"] == len(radiographs())
    assert run.result["acknowledged"] == len(radiographs())


def test_every_chest_radiograph_has_a_result(run: Run) -> None:
    """Whatever its compression and its photometric interpretation."""
    assert run.result["scored"] == len(chest_radiographs())


def test_refused_are_the_dog_and_the_broken_file(run: Run) -> None:
    """Each with a reason that says which of the two it is."""
    reasons = {each["file"]: each["reason"] for each in run.result["refused"]}
    assert sorted(reasons) == ["12-maple-not-a-chest.dcm", "13-oak-broken.dcm"]
    assert "cut off" in reasons["13-oak-broken.dcm"] or "damaged" in reasons["13-oak-broken.dcm"]
    assert reasons["12-maple-not-a-chest.dcm"]


def test_every_study_is_on_the_list_once(run: Run) -> None:
    """Those without a result too: somebody still has to read them."""
    studies = {str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in radiographs()}
    rows = run.result["worklist"]
    assert sorted(row["study"] for row in rows) == sorted(studies)
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert sorted(row["ordered_rank"] for row in rows) == [row["rank"] for row in rows]
    assert all(row["reason"] for row in rows)


def test_list_is_not_in_the_ordered_order(run: Run) -> None:
    """Findings moved at least one study up."""
    assert any(row["rank"] < row["ordered_rank"] for row in run.result["worklist"])


def test_nothing_is_lowered(run: Run) -> None:
    """No study is read as less urgent than it was ordered, and the one ordered STAT is first."""
    rows = run.result["worklist"]
    assert all(LEVELS.index(row["priority"]) <= LEVELS.index(row["ordered"]) for row in rows)
    assert (rows[0]["ordered"], rows[0]["files"]) == ("STAT", ["08-ginkgo-dx.dcm"])


def test_what_has_no_result_is_not_moved_by_it(run: Run) -> None:
    """A refused image leaves its study where it was ordered."""
    refused = {each["file"] for each in run.result["refused"]}
    rows = [row for row in run.result["worklist"] if refused & set(row["files"])]
    assert [row["priority"] for row in rows] == [row["ordered"] for row in rows]


def test_every_scored_image_has_one_seg_and_a_report(run: Run) -> None:
    """One SEG cites each image; the study's reports cite it too."""
    images = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in chest_radiographs()}
    segs = [each["source"] for each in run.result["objects"] if each["kind"] == "SEG"]
    assert sorted(segs) == sorted(images)
    assert {uid for each in run.result["objects"] if each["kind"] == "SR" for uid in each["sources"]} == images


def test_objects_are_files_that_say_what_the_json_says(run: Run) -> None:
    """Kind, source and study of each are those of the file."""
    for each in run.result["objects"]:
        ds = dcmread(each["path"])
        assert ds.SOPClassUID == {"SEG": SegmentationStorage, "SR": Comprehensive3DSRStorage}[each["kind"]]
        assert ds.StudyInstanceUID == each["study"]
        assert each["source"] in references(ds)


def test_objects_have_no_errors(run: Run) -> None:
    """Dciodvfy finds none in any of them."""
    errors = {each["path"]: errors_of(Path(each["path"])) for each in run.result["objects"]}
    assert {path: found for path, found in errors.items() if found} == {}


def test_later_report_of_a_study_names_the_earlier(run: Run) -> None:
    """Where a study has several reports, exactly one is not superseded."""
    reports = [dcmread(each["path"]) for each in run.result["objects"] if each["kind"] == "SR"]
    superseded = {uid for ds in reports for uid in predecessors(ds)}
    current = [str(ds.StudyInstanceUID) for ds in reports if ds.SOPInstanceUID not in superseded]
    assert sorted(current) == sorted({str(ds.StudyInstanceUID) for ds in reports})


def test_times_are_those_of_this_run(run: Run) -> None:
    """Seconds from push to list are positive, and the larger percentile is the larger."""
    seconds = run.result["seconds_push_to_list"]
    assert 0 < seconds["p50"] <= seconds["p95"]


def test_interrupted_demo_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGTERM while the daemon runs: every process that it started has ended when it has."""
    process = subprocess.Popen(demo_command(tmp_path / "output", "--keep"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline()
        started = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=180) == 0
    assert started
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), seconds=30, what="all ended")


def test_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    """A demo never writes among files of somebody else."""
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run(demo_command(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def predecessors(ds: Dataset) -> set[str]:
    """SOP Instance UIDs that a report says it takes the place of."""
    return {uid for item in ds.get("PredecessorDocumentsSequence", []) for uid in references(item)}


def errors_of(path: Path) -> list[str]:
    """Lines in which dciodvfy reports an error."""
    done = subprocess.run([DCIODVFY, path], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
