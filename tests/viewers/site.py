"""A hospital of one: Orthanc as its archive, and the daemon that answers what modalities send with results."""

from collections.abc import Iterator, Sequence
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
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from daemons import DCMTK_OPTIONS, Daemon, send_by_dcmtk, wait_until
from journal import references
from peers import Orthanc, orthanc, storescu

DICOMWEB: Final = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
RESULT_SECONDS: Final = 600


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One radiograph in the archive, with what was made of it."""

    image: Dataset
    seg: Dataset
    sr: Dataset

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
def hospital(folder: Path, images: Sequence[Path], *, profile: str) -> Iterator[Hospital]:
    """Push radiographs to an archive and to the daemon; once all results came, give the archive.

    Args:
        folder: everything is below it.
        images: files, each in the transfer syntax that it is sent in.
        profile: of the daemon's destination.
    """
    with orthanc(folder / "orthanc", plugins=[DICOMWEB]) as pacs:
        with Daemon(folder, destinations={}, extra=_destination(pacs.dicom_port, profile)) as daemon:
            for path in images:
                option = DCMTK_OPTIONS[read_file_meta_info(path).TransferSyntaxUID]
                assert storescu(pacs.dicom_port, path, options=["-R", option], called="PACS").returncode == 0
                assert send_by_dcmtk(path, port=daemon.dicom_port)
            wait_until(lambda: _complete(pacs, images), seconds=RESULT_SECONDS, what="every image has its SEG and SR")
        yield Hospital(pacs=pacs, shown=_shown(pacs, images))


def _destination(port: int, profile: str) -> str:
    """Give its table of the configuration."""
    address = f'ae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
    return f'[[destination]]\nname = "viewer"\n{address}profile = "{profile}"\n'


def _stored(pacs: Orthanc) -> list[Dataset]:
    listed = (each["ID"] for each in pacs.get("/instances?expand"))
    return [dcmread(BytesIO(pacs.get_bytes(f"/instances/{each}/file"))) for each in listed]


def _of(stored: Sequence[Dataset], sop_class: str, image: str) -> list[Dataset]:
    """What refers to an image, the latest last."""
    found = [ds for ds in stored if ds.SOPClassUID == sop_class and image in references(ds)]
    return sorted(found, key=lambda ds: int(ds.InstanceNumber))


def _complete(pacs: Orthanc, images: Sequence[Path]) -> bool:
    """Each image has a SEG, and its study's SR is about all of the study's images."""
    if len(pacs.instances()) < 2 * len(images):
        return False
    stored = _stored(pacs)
    sources = [ds for ds in stored if "PixelData" in ds and ds.SOPClassUID != SegmentationStorage]
    for image in sources:
        reports = _of(stored, Comprehensive3DSRStorage, image.SOPInstanceUID)
        siblings = {ds.SOPInstanceUID for ds in sources if ds.StudyInstanceUID == image.StudyInstanceUID}
        if not _of(stored, SegmentationStorage, image.SOPInstanceUID):
            return False
        if not reports or not siblings <= references(reports[-1]):
            return False
    return True


def _shown(pacs: Orthanc, images: Sequence[Path]) -> dict[str, Shown]:
    stored = _stored(pacs)
    by_uid = {str(ds.SOPInstanceUID): ds for ds in stored}
    uids = {path.stem: str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in images}
    return {
        name: Shown(
            image=by_uid[uid],
            seg=_of(stored, SegmentationStorage, uid)[-1],
            sr=_of(stored, Comprehensive3DSRStorage, uid)[-1],
        )
        for name, uid in uids.items()
    }
