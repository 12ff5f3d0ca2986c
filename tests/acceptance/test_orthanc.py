"""Peers that are not ours, on both sides: DCMTK and Orthanc push, Orthanc receives, DCMTK reads the list."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from cxr_triage.daemon.demo.serving import free_ports
from daemons import Daemon, another, chest_radiographs, radiographs, send_by_dcmtk, wait_until
from journal import references
from peers import Orthanc, findscu, orthanc

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

#: The demo's largest effusion, and an unremarkable chest.
EFFUSION, UNREMARKABLE = "04-dogwood-dx.dcm", "01-acacia-dx.dcm"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A service, and an Orthanc that it sends to and that can send to it."""

    daemon: Daemon
    orthanc: Orthanc
    folder: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run both."""
    folder = tmp_path_factory.mktemp("site")
    (dicom_port,) = free_ports(1)
    with (
        orthanc(folder / "orthanc", modalities={"triage": ("CXRTRIAGE", "127.0.0.1", dicom_port)}) as pacs,
        Daemon(folder, destinations={"orthanc": ("PACS", pacs.dicom_port)}, dicom_port=dicom_port) as daemon,
    ):
        yield Site(daemon=daemon, orthanc=pacs, folder=folder)


def by_name(name: str) -> Path:
    """One of the demo's files."""
    return next(path for path in radiographs() if path.name == name)


def stored(site: Site, sop_class: str, study: str) -> list[Dataset]:
    """What Orthanc has of a study and a SOP class."""
    found: list[Dataset] = []
    for instance in site.orthanc.get("/instances?expand"):
        ds = dcmread(BytesIO(site.orthanc.get_bytes(f"/instances/{instance['ID']}/file")))
        if (ds.SOPClassUID, ds.StudyInstanceUID) == (sop_class, study):
            found.append(ds)
    return found


def require_results(site: Site, image: Path) -> None:
    """Wait until Orthanc has a SEG and an SR of an image."""
    ds = dcmread(image, stop_before_pixels=True)

    def there() -> bool:
        return all(stored(site, kind, ds.StudyInstanceUID) for kind in (SegmentationStorage, Comprehensive3DSRStorage))

    wait_until(there, seconds=240, what="SEG and SR are in Orthanc")
    for kind in (SegmentationStorage, Comprehensive3DSRStorage):
        assert [ds.SOPInstanceUID in references(each) for each in stored(site, kind, ds.StudyInstanceUID)] == [True]


def test_orthanc_gets_results_of_what_dcmtk_pushed(site: Site) -> None:
    """DCMTK's storescu proposes JPEG 2000 as a modality would."""
    image = another(by_name(EFFUSION), site.folder)
    assert send_by_dcmtk(image, port=site.daemon.dicom_port)
    require_results(site, image)


def test_orthanc_gets_results_of_what_it_pushed(site: Site) -> None:
    """As a router: an image goes in by REST, out to us by C-STORE, and its results come back."""
    image = another(by_name(UNREMARKABLE), site.folder)
    uploaded = site.orthanc.post("/instances", image.read_bytes())
    answer = site.orthanc.post("/modalities/triage/store", uploaded["ID"].encode())
    assert answer["FailedInstancesCount"] == 0
    require_results(site, image)


def test_results_are_not_taken_back(site: Site) -> None:
    """A router that sends our own SEG to us is refused: there is no circle."""
    segs = [each["ID"] for each in site.orthanc.get("/instances?expand") if each["MainDicomTags"].get("NumberOfFrames")]
    assert segs
    with pytest.raises(OSError, match="500"):
        site.orthanc.post("/modalities/triage/store", segs[0].encode())


def test_worklist_shows_a_study_move_up(site: Site) -> None:
    """DCMTK's findscu: the study that came last stands before those that came first and have no such finding."""
    first = another(by_name(UNREMARKABLE), site.folder)
    last = another(by_name(EFFUSION), site.folder)
    studies = [str(dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in (first, last)]
    assert [send_by_dcmtk(path, port=site.daemon.dicom_port) for path in (first, last)] == [True, True]

    def order() -> list[str]:
        done, answers = findscu(
            site.daemon.worklist_port,
            "StudyInstanceUID",
            "PatientID",
            "RequestedProcedurePriority",
            "RequestedProcedureComments",
            folder=site.folder / "found",
        )
        assert done.returncode == 0, done.stderr
        return [str(each.StudyInstanceUID) for each in answers if each.StudyInstanceUID in studies]

    wait_until(lambda: order() == studies[::-1], seconds=240, what="the later study is first")


def test_every_syntax_that_dcmtk_sends_is_scored(site: Site) -> None:
    """The demo's chest files through storescu, each in its own transfer syntax."""
    images = [another(path, site.folder) for path in chest_radiographs()]
    assert [send_by_dcmtk(image, port=site.daemon.dicom_port) for image in images] == [True] * len(images)
    for image in images:
        require_results(site, image)
