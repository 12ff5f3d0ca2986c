"""Threads that read images: one for each core."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from cxr_triage.model.header import quiet_pydicom


@contextmanager
def reading_threads() -> Iterator[ThreadPoolExecutor]:
    """A pool for functions that read images, DICOM files among them.

    What silences pydicom while a file is read is the process's, not a thread's: here it holds for all of them.
    """
    with quiet_pydicom(), ThreadPoolExecutor(os.cpu_count()) as pool:
        yield pool
