"""A whole service, a PACS that takes little, and what it is told in the end."""

import json
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage, SecondaryCaptureImageStorage

from daemons import Daemon, another, chest_radiographs, send_by_dcmtk, wait_until
from peers import DICOM_WEB, orthanc, storescp

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

#: An association negotiation profile of DCMTK: what the PACS takes, and nothing else.
OLD_PACS = f"""
[[TransferSyntaxes]]
[Default]
TransferSyntax1 = LittleEndianImplicit
[[PresentationContexts]]
[Old]
PresentationContext1 = {SecondaryCaptureImageStorage}\\Default
PresentationContext2 = {BasicTextSRStorage}\\Default
PresentationContext3 = VerificationSOPClass\\Default
[[Profiles]]
[Old]
PresentationContexts = Old
"""


def test_an_old_pacs_and_an_archive_in_the_web(tmp_path: Path) -> None:
    """A picture and sentences, in Implicit VR, for the one; by STOW-RS all of the profile for the other."""
    negotiation = tmp_path / "storescp.cfg"
    negotiation.write_text(OLD_PACS)
    with (
        storescp(tmp_path / "old", "-xf", str(negotiation), "Old") as port,
        orthanc(tmp_path / "orthanc", plugins=[DICOM_WEB]) as archive,
        Daemon(
            tmp_path,
            destinations={"old": ("PACS", port)},
            extra=f'[[destination]]\nname = "web"\nstow_url = "{archive.http}/dicom-web/studies"\n',
        ) as daemon,
    ):
        image = another(chest_radiographs()[0], tmp_path)
        assert send_by_dcmtk(image, port=daemon.dicom_port)
        wait_until(lambda: len(list((tmp_path / "old").iterdir())) == 2, seconds=240, what="stand-ins arrive")
        wait_until(lambda: len(archive.instances()) == 2, seconds=60, what="the archive has SEG and SR")
        status = json.loads(daemon.run("status", "--json"))
        said = daemon.run("status")
    arrived = {dataset.SOPClassUID: dataset for dataset in map(dcmread, (tmp_path / "old").iterdir())}
    assert set(arrived) == {SecondaryCaptureImageStorage, BasicTextSRStorage}
    source = dcmread(image, stop_before_pixels=True)
    assert {dataset.StudyInstanceUID for dataset in arrived.values()} == {source.StudyInstanceUID}
    old, web = status["destinations"]
    assert {each["sop_class"]: each["instead_sop_class"] for each in old["not_taken"]} == {
        "Segmentation Storage": "Grayscale Softcopy Presentation State Storage",
        "Grayscale Softcopy Presentation State Storage": "Secondary Capture Image Storage",
        "Comprehensive 3D SR Storage": "Comprehensive SR Storage",
        "Comprehensive SR Storage": "Basic Text SR Storage",
    }
    assert (web["not_taken"], web["deliveries"]["stored"]) == ([], 2)
    assert "old: does not take Segmentation Storage" in said
    assert status["alerts"] == []
