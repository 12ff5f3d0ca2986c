"""What is planted in images comes out nowhere but in the database, the two folders and the DICOM answers."""

import json
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation

import invariants
from cxr_triage.daemon.demo.serving import free_ports
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping
from daemons import Daemon, another, radiographs, send, wait_until
from invariants import PLANTED

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

NEEDLES = (*invariants.NEEDLES, "ISOPLANTED")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """A daemon that saw good, broken, odd and unwanted images, and a PACS that is down; still running."""
    folder = tmp_path_factory.mktemp("privacy")
    daemon = Daemon(
        folder,
        destinations={"down": ("NOBODY", free_ports(1)[0])},
        extra='[logs]\nlevel = "debug"\n[infer]\nretry_first_seconds = 0.5\nretry_longest_seconds = 1\n',
    )
    images = planted_images(folder)
    with daemon:
        assert [send(path, port=daemon.dicom_port) for path in images] == [True] * len(images)
        wait_until(lambda: at_rest(daemon, len(images)), seconds=600, what="every image scored or set aside")
        wait_until(lambda: "down" in daemon.run("status"), seconds=60, what="a delivery was tried")
        (folder / "spoken.txt").write_text(everything_said(daemon))
    return daemon


def planted_images(folder: Path) -> list[Path]:
    """Every file of the demo with all that is planted, and some that nobody can like."""
    made = [another(path, folder, **PLANTED) for path in radiographs()]
    chest = radiographs()[0]
    odd: dict[str, dict[str, object]] = {
        "no pixels": {"PixelData": b""},
        "letters for a date": {"StudyDate": "PLANTED0815", "PatientBirthDate": "PLANTED0815"},
        "letters for an age": {"PatientAge": "PLANTED0815"},
        "too many rows": {"Rows": 60000, "Columns": 60000},
        "a lateral": {"ViewPosition": "LL", "SeriesDescription": PLANTED["StudyDescription"]},
        "a name for a number": {"WindowCenter": "1", "SeriesNumber": "1", "ViewPosition": "PLANTED0815"},
    }
    made += [spoilt(chest, folder, {**PLANTED, **changes}) for changes in odd.values()]
    foreign = another(chest, folder, **PLANTED)
    foreign.write_bytes(foreign.read_bytes().replace(b"ISO_IR 100", b"ISOPLANTED"))
    return [*made, foreign]


def spoilt(path: Path, folder: Path, changes: dict[str, object]) -> Path:
    """Copy a radiograph with values that pydicom would rather not write."""
    made = another(path, folder)
    with disable_value_validation():
        ds = dcmread(made)
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
        ds.save_as(made, enforce_file_format=True)
    return made


def at_rest(daemon: Daemon, images: int) -> bool:
    """Whether every image has an end state."""
    with closing(open_database(f"sqlite:///{daemon.folder / 'triage.db'}")) as database:
        counts = Housekeeping(database).counts().instances
    return (
        sum(counts[state] for state in (InstanceState.SCORED, InstanceState.UNSUITABLE, InstanceState.FAILED)) == images
    )


def everything_said(daemon: Daemon) -> str:
    """What each face of the product says that is not DICOM."""
    commands = [["status"], ["status", "--json"], ["worklist"], ["worklist", "--json"]]
    pages = [
        urllib.request.urlopen(f"http://127.0.0.1:{daemon.web_port}/{page}").read().decode()
        for page in ("healthz", "metrics")
    ]
    return "\n".join([*(daemon.run(*command) for command in commands), *pages, *daemon.said])


def test_logs_hold_nothing_of_the_patient(used: Daemon) -> None:
    """At the most talkative level, with broken images and a PACS that is down."""
    log = used.log.read_text()
    assert [needle for needle in NEEDLES if needle.casefold() in log.casefold()] == []


def test_log_has_been_written(used: Daemon) -> None:
    """The search above is in a log that speaks of every image."""
    lines = [json.loads(line) for line in used.log.read_text().splitlines() if line.startswith("{")]
    assert len({line["sop_instance_uid"] for line in lines if "sop_instance_uid" in line}) >= len(radiographs())


def test_commands_and_metrics_hold_nothing_of_the_patient(used: Daemon) -> None:
    """Status, list, health, metrics and the readiness line."""
    spoken = (used.folder / "spoken.txt").read_text()
    assert [needle for needle in NEEDLES if needle.casefold() in spoken.casefold()] == []


def test_patient_data_is_in_the_database(used: Daemon) -> None:
    """The search is for something that is there: the modality worklist needs it."""
    assert any(PLANTED["PatientID"].encode() in path.read_bytes() for path in used.folder.glob("triage.db*"))
