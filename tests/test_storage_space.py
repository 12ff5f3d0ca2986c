"""The low-water mark."""

from pathlib import Path

import pytest

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.space import LowWater, free_bytes


def test_free_space_is_the_file_systems(tmp_path: Path) -> None:
    """Some, on a machine that runs tests."""
    assert free_bytes(tmp_path) > 0


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(StorageError, match="missing"):
        free_bytes(tmp_path / "missing")


def test_what_would_leave_too_little_is_refused(tmp_path: Path) -> None:
    """The folder is named, and the setting that decides."""
    free = free_bytes(tmp_path)
    mark = LowWater(folders=[tmp_path], minimum_free_bytes=free // 2)
    mark.require(1000)
    assert mark.below() == []
    with pytest.raises(StorageError, match=r"storage\.minimum_free_megabytes"):
        mark.require(free)


def test_a_folder_below_the_mark_is_told(tmp_path: Path) -> None:
    """Every folder counts."""
    mark = LowWater(folders=[tmp_path], minimum_free_bytes=2 * free_bytes(tmp_path))
    assert mark.below() == [tmp_path]
