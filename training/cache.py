"""Prepared images on disk, so that the loader never starves the network."""

import fcntl
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import STRUCTURES
from cxr_triage.model.pose import Pose
from cxr_triage.model.preparation import frame_of, prepare, prepare_mask
from cxr_triage.model.radiograph import read_radiograph
from cxr_triage.training.data import Sample, is_dicom, read_image, read_mask
from cxr_triage.training.threads import reading_threads

#: Images that threads prepare before they are written.
PREPARED_AT_ONCE: Final = 256


class Images(Protocol):
    """Prepared images, uint8 (N, size, size): an array, or one that is read when asked."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Those rows."""


@dataclass(frozen=True, eq=False)
class SomeImages:
    """Rows of a larger set, which stays where it is: on disk."""

    images: Images
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        """How many."""
        return len(self.rows)

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Those of these rows."""
        return self.images[self.rows[rows]]


def prepared_images(samples: Sequence[Sample], size: int, folder: Path) -> NDArray[np.uint8]:
    """All images as uint8 (N, size, size), made once and memory-mapped afterwards."""
    names = "\n".join(f"{sample.image}:{sample.image.stat().st_size}" for sample in samples)
    path = folder / f"images-{size}-{hashlib.sha256(names.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock")):
            if not path.exists():
                partial = path.with_suffix(".partial.npy")
                _prepare_into(partial, samples, size)
                partial.rename(path)
    images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return images


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait for other runs that prepare the same; a process that dies lets go."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare_into(path: Path, samples: Sequence[Sample], size: int) -> None:
    """Row by row into the file: 300,000 radiographs of 512 pixels are 79 GB, more than memory holds."""
    shape = (len(samples), size, size)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with reading_threads() as pool:
        for start in range(0, len(samples), PREPARED_AT_ONCE):
            part = samples[start : start + PREPARED_AT_ONCE]
            for row, image in enumerate(pool.map(_prepared_image, part, [size] * len(part)), start):
                images[row] = image
    images.flush()


def prepared_masks(samples: Sequence[Sample], size: int) -> NDArray[np.uint8]:
    """The masks of samples that have one, as coverage 0-255, uint8 (N, structures, size, size)."""
    masks = [_prepared_mask(sample, size) for sample in samples]
    return np.stack(masks) if masks else np.zeros((0, len(STRUCTURES), size, size), dtype=np.uint8)


def _prepared_image(sample: Sample, size: int) -> NDArray[np.uint8]:
    pixels = read_image(sample.image)
    return _as_bytes(prepare(pixels, frame_of(pixels), size)[0].numpy())


def _prepared_mask(sample: Sample, size: int) -> NDArray[np.uint8]:
    if sample.mask is None:
        raise ValueError(f"{sample.id} has no mask")
    masks = read_mask(sample.mask)
    if is_dicom(sample.image):
        masks = Pose.of(read_radiograph(sample.image)).shown_masks(masks)
    return _as_bytes(prepare_mask(masks, frame_of(read_image(sample.image)), size).numpy())


def _as_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(values * 255).astype(np.uint8)
