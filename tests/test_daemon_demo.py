"""The demo's parts without the daemon: its radiographs, its PACS, its folder, and what it says of an outcome."""

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import SegmentationStorage, generate_uid
from pynetdicom import AE

from cxr_triage.daemon.demo.command import ORDERS, fresh_folder
from cxr_triage.daemon.demo.follow import Outcome, Refused, percentile, seconds_to_list
from cxr_triage.daemon.demo.pacs import AE_TITLE, DemoPacs, StoredObject
from cxr_triage.daemon.demo.push import PushedFile
from cxr_triage.daemon.demo.serving import free_ports, write_configuration
from cxr_triage.daemon.demo.show import as_json
from cxr_triage.daemon.settings import load_settings
from cxr_triage.model.errors import ConfigurationError, UnreadableImageError
from cxr_triage.model.radiograph import read_radiograph

RADIOGRAPHS = sorted(Path(str(files("cxr_triage.daemon.demo") / "radiographs")).glob("*.dcm"))
BROKEN = "13-oak-broken.dcm"
NOON = datetime(2024, 3, 4, 12, 0, tzinfo=UTC)


def pushed(path: str, *, image: str = "", study: str = "1.2", acknowledged: bool = True) -> PushedFile:
    """Give a file that was pushed at noon."""
    return PushedFile(
        path=Path(path),
        sop_instance_uid=image or generate_uid(),
        study_instance_uid=study,
        started_at=NOON,
        acknowledged=acknowledged,
    )


def stored(kind: str, *references: str) -> StoredObject:
    """Give an object that the PACS has."""
    return StoredObject(
        kind=kind, path=Path("o.dcm"), sop_instance_uid="1.9", study_instance_uid="1.2", references=references
    )


def outcome(**changes: object) -> Outcome:
    """Give the outcome of a demo of one image, complete unless said otherwise."""
    complete = {
        "pushed": [pushed("a.dcm", image="1.2.3")],
        "scored": 1,
        "refused": [],
        "worklist": [],
        "objects": [stored("SEG", "1.2.3"), stored("SR", "1.2.3", "1.9")],
        "seconds_push_to_list": [2.0],
    }
    return Outcome(**(complete | changes))  # type: ignore[arg-type]


def test_radiographs_are_small_and_attributed() -> None:
    """They ship in the wheel, so they stay below 4 MB, and every file is named beside its source."""
    assert sum(path.stat().st_size for path in RADIOGRAPHS) < 4_000_000
    attribution = RADIOGRAPHS[0].with_name("ATTRIBUTION.md").read_text()
    assert [path.name for path in RADIOGRAPHS if f"`{path.name}`" not in attribution] == []


def test_radiographs_are_of_at_least_eight_studies() -> None:
    """One of them has two images."""
    studies = Counter(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in RADIOGRAPHS)
    assert len(studies) == len(RADIOGRAPHS) - 1
    assert max(studies.values()) == 2


def test_all_radiographs_but_the_broken_one_can_be_read() -> None:
    """And the broken one says that it is cut off."""
    for path in RADIOGRAPHS:
        if path.name == BROKEN:
            with pytest.raises(UnreadableImageError, match=r"cut off|damaged"):
                read_radiograph(path)
        else:
            assert read_radiograph(path).pixels_HW.max() > 0.5


@pytest.mark.parametrize("path", RADIOGRAPHS, ids=lambda path: path.name)
def test_radiographs_have_no_errors(path: Path) -> None:
    """Dciodvfy finds none."""
    done = subprocess.run(
        [Path(sys.executable).with_name("dciodvfy"), path], capture_output=True, text=True, check=False
    )
    assert [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")] == []


def test_header_of_the_one_that_is_no_chest_does_not_say_so() -> None:
    """The image itself has to be found out."""
    ds = dcmread(next(path for path in RADIOGRAPHS if "not-a-chest" in path.name))
    silent = ("ViewPosition", "BodyPartExamined", "PatientAge", "PatientSpeciesDescription", "SeriesDescription")
    assert [keyword for keyword in silent if ds.get(keyword)] == []


def test_ordered_studies_are_among_the_radiographs() -> None:
    """A renamed file must not silently stay ROUTINE."""
    assert set(ORDERS) <= {path.name for path in RADIOGRAPHS}


def test_pacs_keeps_what_it_is_sent(tmp_path: Path) -> None:
    """One file per object, its references read from it."""
    ds = dcmread(RADIOGRAPHS[0])
    ds.SOPClassUID = SegmentationStorage
    ds.ReferencedSOPInstanceUID = "1.2.3"
    with DemoPacs(tmp_path) as pacs:
        ae = AE()
        ae.add_requested_context(SegmentationStorage)
        association = ae.associate("127.0.0.1", pacs.port, ae_title=AE_TITLE)
        for _ in range(2):
            association.send_c_store(ds)
        association.release()
        (kept,) = pacs.objects()
    assert (kept.kind, kept.sop_instance_uid, kept.references) == ("SEG", ds.SOPInstanceUID, ("1.2.3",))
    assert kept.path == tmp_path / "SEG" / f"{ds.SOPInstanceUID}.dcm"


def test_configuration_is_one_that_the_daemon_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything lies in the demo's folder and on loopback."""
    monkeypatch.delenv("CXR_TRIAGE_CONFIG", raising=False)
    configuration = write_configuration(tmp_path, pacs_port=free_ports(1)[0])
    settings = load_settings(configuration.path)
    assert settings.database_url == configuration.database_url
    assert settings.dicom.port == configuration.dicom_port
    assert settings.inbox_folder.is_relative_to(tmp_path)
    assert settings.worklist.enabled


def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A demo never writes among files of somebody else."""
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        fresh_folder(tmp_path)


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """It says which, and why."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/folder.*Not a directory"):
        fresh_folder(tmp_path / "file" / "folder")


def test_folder_without_a_name_is_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the working directory."""
    monkeypatch.chdir(tmp_path)
    assert fresh_folder(None).parent == tmp_path / "demo-output"


def test_folder_without_a_name_is_temporary_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo runs from any directory."""
    (tmp_path / "demo-output").touch()
    monkeypatch.chdir(tmp_path)
    folder = fresh_folder(None)
    assert folder.name.startswith("cxr-triage-demo-")
    folder.rmdir()


def test_nothing_is_lost_when_all_is_there() -> None:
    """Also with a refused image, which has no objects."""
    refused = Refused(file="b.dcm", state="unsuitable", kind="not_chest", reason="No lung is seen.")
    both = [pushed("a.dcm", image="1.2.3"), pushed("b.dcm")]
    assert outcome(pushed=both, refused=[refused]).losses() == []


def test_losses_are_named() -> None:
    """What was not acknowledged, what has no result, and what did not reach the PACS."""
    assert outcome(pushed=[pushed("a.dcm", acknowledged=False)], scored=0).losses() == ["a.dcm: not acknowledged"]
    assert outcome(scored=0).losses() == ["1 images should have a result, 0 have"]
    assert outcome(objects=[stored("SR", "1.2.3")]).losses() == ["a.dcm: no SEG at the PACS"]
    assert outcome(objects=[stored("SEG", "1.2.3")]).losses() == ["a.dcm: no SR at the PACS"]


def test_json_has_the_documented_keys() -> None:
    """As docs/reference/command-line.md lists them."""
    said = json.loads(as_json(outcome()))
    assert sorted(said) == sorted(
        ["pushed", "acknowledged", "scored", "refused", "worklist", "objects", "seconds_push_to_list", "lost"]
    )
    assert said["objects"][0] == {
        "kind": "SEG",
        "path": "o.dcm",
        "source": "1.2.3",
        "sources": ["1.2.3"],
        "files": ["a.dcm"],
        "study": "1.2",
    }


def test_time_of_a_study_begins_with_its_first_image() -> None:
    """And ends when its priority was committed; studies without a result have none."""
    later = pushed("b.dcm", study="1.2")
    both = [pushed("a.dcm", study="1.2"), later, pushed("c.dcm", study="1.3")]
    assert seconds_to_list(both, {"1.2": NOON + timedelta(seconds=3)}) == [3.0]


def test_percentiles_are_by_nearest_rank() -> None:
    """Of nothing there is none."""
    assert [percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.5, 0.95)] == [2.0, 4.0]
    assert percentile([], 0.5) is None
