"""A hospital of one: Orthanc as its archive, and the daemon that answers what modalities send with results."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.processing import apply_modality_lut

from daemons import DCMTK_OPTIONS, Daemon, send_by_dcmtk, wait_until
from journal import references
from peers import LOOPBACK, Orthanc, orthanc, storescu

DICOMWEB: Final = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
RESULT_SECONDS: Final = 600


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One radiograph in the archive, with what was made of it."""

    image: Dataset
    #: By Modality (PS3.3 C.7.3.1.1.1), the latest of each; a Secondary Capture is OT.
    made: Mapping[str, Dataset]

    @property
    def seg(self) -> Dataset:
        """The SEG."""
        return self.made["SEG"]

    @property
    def sr(self) -> Dataset:
        """The SR."""
        return self.made["SR"]

    @property
    def study(self) -> str:
        """Study Instance UID."""
        return str(self.image.StudyInstanceUID)

    def brightness(self) -> NDArray[np.generic]:
        """The image's pixels (row, column), larger where it is shown brighter."""
        values = np.asarray(apply_modality_lut(self.image.pixel_array, self.image), dtype=float)
        return -values if self.image.PhotometricInterpretation == "MONOCHROME1" else values

    def masks(self) -> NDArray[np.bool_]:
        """The SEG's masks (segment, row, column), by segment number."""
        frames = self.seg.PerFrameFunctionalGroupsSequence
        numbers = [frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in frames]
        return np.asarray(self.seg.pixel_array.astype(bool)[np.argsort(numbers)])


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """The archive, filled."""

    pacs: Orthanc
    #: By the radiograph's name.
    shown: dict[str, Shown]

    def instance(self, ds: Dataset) -> str:
        """Give Orthanc's own identifier of an object."""
        (found,) = self.pacs.post("/tools/lookup", str(ds.SOPInstanceUID).encode())
        return str(found["ID"])


@contextmanager
def hospital(folder: Path, images: Mapping[str, Path], *, like: str, objects: Sequence[str]) -> Iterator[Hospital]:
    """Push radiographs to an archive and to the daemon; once all results came, give the archive.

    Args:
        folder: everything is below it.
        images: files by name, each in the transfer syntax that it is sent in.
        like: what the profile of the daemon's destination is like.
        objects: what is made for it.
    """
    with orthanc(folder / "orthanc", plugins=[DICOMWEB]) as pacs:
        with Daemon(folder, destinations={}, extra=_destination(pacs.dicom_port, like, objects)) as daemon:
            for path in images.values():
                option = DCMTK_OPTIONS[read_file_meta_info(path).TransferSyntaxUID]
                assert storescu(pacs.dicom_port, path, options=["-R", option], called="PACS").returncode == 0
                assert send_by_dcmtk(path, port=daemon.dicom_port)
            wait_until(lambda: _is_done(daemon, len(images)), seconds=RESULT_SECONDS, what="all results are there")
        yield Hospital(pacs=pacs, shown=_shown(pacs, images))


def _destination(port: int, like: str, objects: Sequence[str]) -> str:
    """Give its tables of the configuration."""
    profile = f'[[profile]]\nname = "viewers"\nlike = "{like}"\nobjects = {json.dumps(objects)}\n'
    address = f'ae_title = "PACS"\nhost = "{LOOPBACK}"\nport = {port}\n'
    return f'{profile}[[destination]]\nname = "viewer"\n{address}profile = "viewers"\n'


def _is_done(daemon: Daemon, images: int) -> bool:
    """Every image is scored, every study reported, and everything delivered."""
    status = json.loads(daemon.run("status", "--json"))
    return bool(
        status["images"]["scored"] == images
        and not status["revisions"]["open"]
        and status["oldest_undelivered_seconds"] is None
    )


def _shown(pacs: Orthanc, images: Mapping[str, Path]) -> dict[str, Shown]:
    listed = (each["ID"] for each in pacs.get("/instances?expand"))
    stored = [dcmread(BytesIO(pacs.get_bytes(f"/instances/{each}/file"))) for each in listed]
    # Of two revisions, the later one has the greater number.
    stored.sort(key=lambda ds: int(ds.InstanceNumber))
    uids = {name: str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for name, path in images.items()}
    return {
        name: Shown(
            image=next(ds for ds in stored if ds.SOPInstanceUID == uid),
            made={str(ds.Modality): ds for ds in stored if uid in references(ds)},
        )
        for name, uid in uids.items()
    }
