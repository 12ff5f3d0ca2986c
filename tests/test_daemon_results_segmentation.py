"""The SEG of one radiograph."""

from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

import results
from builders import thorax_masks
from cxr_triage.daemon.results.objects import build_objects
from cxr_triage.daemon.results.profiles import AIR, OHIF, PROFILES, Profile
from cxr_triage.daemon.results.segmentation import build_seg
from cxr_triage.model.errors import ResultError
from cxr_triage.model.findings import STRUCTURES


def _read_back(header: Dataset, masks: NDArray[np.bool_], profile: Profile = AIR) -> Dataset:
    return results.written(build_seg(results.stored(header, masks_CHW=masks), header, profile=profile))


@pytest.mark.parametrize("profile", [AIR, OHIF], ids=lambda profile: profile.name)
@pytest.mark.parametrize(("rows", "columns"), [(37, 29), (40, 32), (33, 41)])
def test_the_masks_come_back_bit_for_bit(rows: int, columns: int, profile: Profile) -> None:
    """Whatever the number of columns, and where lung and heart overlap."""
    masks = thorax_masks(rows, columns)
    assert (masks[1] & masks[2]).any()
    header = results.source(rows=rows, columns=columns)
    assert np.array_equal(masks, pixel_array(_read_back(header, masks, profile)).astype(bool))


def test_highdicom_reads_each_segment() -> None:
    """A reader that goes by segment numbers finds the structure of that name."""
    header = results.source()
    seg = highdicom.seg.Segmentation.from_dataset(_read_back(header, thorax_masks(37, 29)))
    pixels = seg.get_pixels_by_source_instance([header.SOPInstanceUID])
    assert np.array_equal(thorax_masks(37, 29), np.moveaxis(pixels[0], -1, 0).astype(bool))
    assert [s.name for s in STRUCTURES] == [s.SegmentLabel.lower().replace(" ", "_") for s in seg.SegmentSequence]


@pytest.mark.parametrize("empty", [(0,), (1, 2), (0, 1, 2)])
def test_an_empty_structure_keeps_its_segment_and_an_empty_frame(empty: tuple[int, ...]) -> None:
    """Segment numbers do not depend on what was outlined."""
    masks = thorax_masks(37, 29)
    masks[list(empty)] = False
    seg = _read_back(results.source(), masks)
    assert np.array_equal(masks, pixel_array(seg).astype(bool))
    assert [int(segment.SegmentNumber) for segment in seg.SegmentSequence] == [1, 2, 3]


@pytest.mark.parametrize("empty", [(0,), (0, 1, 2)])
def test_objects_without_a_structure_are_valid(empty: tuple[int, ...], tmp_path: Any) -> None:
    """The SEG has an empty frame, the SR no reference to it."""
    header, masks = results.source(), thorax_masks(37, 29)
    masks[list(empty)] = False
    for profile in PROFILES.values():
        prediction = results.stored(header, masks_CHW=masks)
        for built in build_objects(results.revision(), [prediction], results.sources(header), profile):
            assert results.errors(built.dataset, tmp_path) == []


def test_it_says_who_drew_what() -> None:
    """SNOMED CT codes, colours, and the algorithm with the digest of its weights."""
    seg = _read_back(results.source(), thorax_masks(37, 29))
    assert (seg.SegmentationType, seg.SegmentsOverlap, seg.Modality) == ("BINARY", "YES", "SEG")
    assert "research, not for diagnosis" in seg.SeriesDescription
    for segment, structure in zip(seg.SegmentSequence, STRUCTURES, strict=True):
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        assert (structure.code.value, "SCT") == (code.CodeValue, code.CodingSchemeDesignator)
        assert len(segment.RecommendedDisplayCIELabValue) == 3
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("first", "1.0.0")
        assert algorithm.AlgorithmParameters == "weights-sha256=" + "ab" * 32


def test_air_has_the_sources_orientation_and_no_plane() -> None:
    """A projection has no plane in the patient."""
    seg = _read_back(results.source(PatientOrientation=["R", "F"]), thorax_masks(37, 29))
    assert seg.PatientOrientation == ["R", "F"]
    assert "FrameOfReferenceUID" not in seg
    assert "PlaneOrientationSequence" not in seg.SharedFunctionalGroupsSequence[0]


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({}, [4.0, 4.0]),
        ({"PixelSpacing": [0.5, 0.25]}, [0.5, 0.25]),
        ({"ImagerPixelSpacing": None}, [1.0, 1.0]),
        ({"ImagerPixelSpacing": [0, 0]}, [1.0, 1.0]),
    ],
)
def test_ohif_has_a_nominal_plane_of_its_own(tags: dict[str, Any], spacing: list[float]) -> None:
    """One that no other image shares, in the spacing in which the source is shown."""
    seg = _read_back(results.source(**tags), thorax_masks(37, 29), OHIF)
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert spacing == shared.PixelMeasuresSequence[0].PixelSpacing
    assert seg.FrameOfReferenceUID.startswith("2.25.")


def test_masks_of_another_size_are_refused() -> None:
    """They would lie somewhere else in the image."""
    header = results.source()
    with pytest.raises(ResultError, match="pixel matrix"):
        build_seg(results.stored(header, masks_CHW=thorax_masks(40, 29)), header, profile=AIR)
