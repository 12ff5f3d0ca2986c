"""Pictures for what is drawn on: read by a child, with the display's greys, and with a clear word where that fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import ComputedRadiographyImageStorage

import builders
from cxr_triage.daemon.pictures import Pictures
from cxr_triage.daemon.picturing import LARGEST, picture_of
from cxr_triage.daemon.results.picture import shrunk
from cxr_triage.model.errors import ResultError
from cxr_triage.model.radiograph import read_radiograph


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    """A reader with a child of its own."""
    folder = tmp_path / "spool"
    folder.mkdir()
    reader = Pictures(folder=folder, deadline_seconds=60, logs=None)
    yield reader
    reader.close()
    assert list(folder.iterdir()) == []


def image(folder: Path, **tags: Any) -> Path:
    """Write a radiograph."""
    return builders.radiograph_file(folder, **tags)


def test_a_child_reads_what_the_display_shows(pictures: Pictures, tmp_path: Path) -> None:
    """The same greys as the network's, in eight bits."""
    path = image(tmp_path, WindowCenter=2000, WindowWidth=3000)
    picture = pictures.read(path)
    assert np.abs(picture.grey_HW / 255 - read_radiograph(path).pixels_HW).max() <= 0.5 / 255 + 1e-6
    assert picture.window is None


def test_what_cannot_be_read_is_said(pictures: Pictures, tmp_path: Path) -> None:
    """And the next picture is read all the same."""
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"not DICOM")
    with pytest.raises(ResultError, match="Nothing can be drawn on the image"):
        pictures.read(broken)
    assert pictures.read(image(tmp_path)).grey_HW.shape == (96, 80)


def test_pixels_become_square(tmp_path: Path) -> None:
    """In the picture a circle is a circle; the picture is neither turned nor mirrored."""
    wide = picture_of(image(tmp_path, ImagerPixelSpacing=[0.1, 0.2], PatientOrientation=["R", "F"]))
    assert wide.grey_HW.shape == (96, 160)
    tall = picture_of(image(tmp_path, ImagerPixelSpacing=[0.2, 0.1]))
    assert tall.grey_HW.shape == (192, 80)


def test_a_picture_is_no_larger_than_anything_needs(tmp_path: Path) -> None:
    """A scan in enormous resolution is read smaller."""
    pixels = np.zeros((10, LARGEST * 2), dtype=np.uint16)
    pixels[:, ::2] = 4095
    assert picture_of(image(tmp_path, pixels=pixels)).grey_HW.shape == (5, LARGEST)
    assert shrunk(np.zeros((300, 200), np.uint8), 150).shape == (150, 100)
    assert shrunk(np.zeros((300, 200), np.uint8), 900).shape == (300, 200)


def test_a_window_is_found_where_the_header_has_none(tmp_path: Path) -> None:
    """That which the display takes: shown through it, the stored pixels are the picture."""
    pixels = np.linspace(1000, 1400, 96 * 80, dtype=np.uint16).reshape(96, 80)
    path = image(tmp_path, pixels=pixels, SOPClassUID=ComputedRadiographyImageStorage)
    picture = picture_of(path)
    assert picture.window is not None
    shown = picture.window.apply(pixels.astype(np.float32))
    assert np.abs(shown - read_radiograph(path).pixels_HW).max() < 1e-3
    assert picture.window.width < 450
