"""Prepared images on disk, so that the loader never starves the network."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.header import quiet_pydicom
from cxr_triage.model.preparation import frame_of, prepare, prepare_mask
from cxr_triage.training.data import Sample, read_image, read_mask


def prepared_images(samples: Sequence[Sample], size: int, folder: Path) -> NDArray[np.uint8]:
    """All images as uint8 (N, size, size), made once and memory-mapped afterwards."""
    names = "\n".join(f"{sample.image}:{sample.image.stat().st_size}" for sample in samples)
    path = folder / f"images-{size}-{hashlib.sha256(names.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # What silences pydicom while a file is read is the process's, not a thread's: here it holds for all of them.
        with quiet_pydicom(), ThreadPoolExecutor(os.cpu_count()) as pool:
            rows = list(pool.map(_prepared_image, samples, [size] * len(samples)))
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.stack(rows))
        partial.rename(path)
    images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return images


def prepared_masks(samples: Sequence[Sample], size: int) -> NDArray[np.uint8]:
    """The masks of samples that have one, as coverage 0-255, uint8 (N, structures, size, size)."""
    return np.stack([_prepared_mask(sample, size) for sample in samples])


def _prepared_image(sample: Sample, size: int) -> NDArray[np.uint8]:
    pixels = read_image(sample.image)
    return _as_bytes(prepare(pixels, frame_of(pixels), size)[0].numpy())


def _prepared_mask(sample: Sample, size: int) -> NDArray[np.uint8]:
    if sample.mask is None:
        raise ValueError(f"{sample.id} has no mask")
    frame = frame_of(read_image(sample.image))
    return _as_bytes(prepare_mask(read_mask(sample.mask), frame, size).numpy())


def _as_bytes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(values * 255).astype(np.uint8)
