"""The masks of one radiograph -> Segmentation (PS3.3 A.51): left lung, right lung, heart, as the network drew them."""

from typing import Final

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from cxr_triage.daemon.results.codes import ANATOMICAL_STRUCTURE, ARTIFICIAL_INTELLIGENCE, concept
from cxr_triage.daemon.results.finishing import (
    MANUFACTURER,
    equipment,
    finish,
    image_object_uid,
    image_series_description,
    source_stand_in,
)
from cxr_triage.daemon.results.patient import copy_elements
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.daemon.results.uids import derived_uid, segment_uid
from cxr_triage.model.errors import ResultError
from cxr_triage.model.findings import STRUCTURES, Structure
from cxr_triage.model.header import number, shown_spacing, text
from cxr_triage.model.prediction import BundleIdentity
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind

#: Rows from left to right, columns from top to bottom: nominal, since a projection has no plane in the patient.
NOMINAL_ORIENTATION: Final = [1, 0, 0, 0, 1, 0]


def segment_number(structure: Structure) -> int:
    """Every SEG describes all structures, in their order, also those without a single pixel."""
    return STRUCTURES.index(structure) + 1


def build_seg(stored: StoredPrediction, source: Dataset, *, profile: Profile) -> Segmentation:
    """Build the SEG of one image.

    Each structure has exactly one frame, an empty one if its mask is empty: segment numbers and frames are the same
    in every object, and "looked for, nothing outlined" is told from "not looked for".

    Args:
        stored: the prediction; its masks are in the source's pixel matrix.
        source: the source's header, without pixels.
        profile: whom for; without a nominal plane it has the source's PatientOrientation.

    Raises:
        ResultError: the masks do not have the source's size.
    """
    _check_size(stored, source)
    segmentation = _segmentation(stored, source, profile)
    # PS3.3 C.8.20.2: structures are outlined each on its own, so a pixel may belong to lung and heart.
    segmentation.SegmentsOverlap = "YES"
    _name_dimensions(segmentation, image_object_uid(ObjectKind.SEG, stored, profile, "dimensions"))
    if profile.nominal_plane:
        _add_nominal_plane(
            segmentation, source, image_object_uid(ObjectKind.SEG, stored, profile, "frame of reference")
        )
    else:
        _copy_orientation(segmentation, source)
    content = finish(segmentation, source=source, moment=stored.received_at)
    _name_dimensions(
        segmentation, derived_uid(image_object_uid(ObjectKind.SEG, stored, profile, "dimensions"), content)
    )
    if profile.nominal_plane:
        segmentation.FrameOfReferenceUID = derived_uid(segmentation.FrameOfReferenceUID, content)
    return segmentation


def _check_size(stored: StoredPrediction, source: Dataset) -> None:
    masks = stored.prediction.masks_CHW.shape
    expected = (len(STRUCTURES), int(number(source, "Rows") or 0), int(number(source, "Columns") or 0))
    if masks != expected:
        raise ResultError(f"The masks of image {stored.sop_instance_uid} are {masks}, its pixel matrix is {expected}.")


def _segmentation(stored: StoredPrediction, source: Dataset, profile: Profile) -> Segmentation:
    bundle = stored.prediction.bundle
    masks_1HWC = np.moveaxis(stored.prediction.masks_CHW, 0, -1)[np.newaxis]
    return Segmentation(
        source_images=[_stand_in(stored, source)],
        pixel_array=masks_1HWC.astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(stored, structure, profile) for structure in STRUCTURES],
        series_instance_uid=image_object_uid(ObjectKind.SEG, stored, profile, "series"),
        series_number=profile.series_number(ObjectKind.SEG),
        sop_instance_uid=image_object_uid(ObjectKind.SEG, stored, profile),
        instance_number=1,
        content_label="CXR_TRIAGE",
        content_description=image_series_description(ObjectKind.SEG, stored, profile),
        series_description=image_series_description(ObjectKind.SEG, stored, profile),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
        **equipment(bundle),
    )


def _stand_in(stored: StoredPrediction, source: Dataset) -> Dataset:
    dataset = source_stand_in(stored)
    if text(source, "LossyImageCompression") == "01":  # what derives from it was lossy too (PS3.3 C.7.6.1.1.5)
        dataset.LossyImageCompression = "01"
        copy_elements(source, dataset, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"))
    return dataset


def _describe(stored: StoredPrediction, structure: Structure, profile: Profile) -> SegmentDescription:
    return SegmentDescription(
        segment_number=segment_number(structure),
        segment_label=profile.meaning(structure.code),
        segmented_property_category=ANATOMICAL_STRUCTURE,
        segmented_property_type=concept(structure.code, profile),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_algorithm(stored.prediction.bundle),
        tracking_uid=segment_uid(stored, structure),
        tracking_id=profile.meaning(structure.code),
        display_color=CIELabColor.from_rgb(*profile.colour(structure.name)),
    )


def _algorithm(bundle: BundleIdentity) -> AlgorithmIdentificationSequence:
    return AlgorithmIdentificationSequence(
        name=bundle.name,
        version=bundle.version,
        family=ARTIFICIAL_INTELLIGENCE,
        source=MANUFACTURER,
        parameters={"weights-sha256": bundle.sha256},
    )


def _name_dimensions(segmentation: Segmentation, uid: str) -> None:
    """Replace the library's random UID wherever it stands (PS3.3 C.7.6.17)."""
    for item in (*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _copy_orientation(segmentation: Segmentation, source: Dataset) -> None:
    """Type 2C in General Image (PS3.3 C.7.6.1) where no plane says it: empty if the source does not know."""
    copy_elements(source, segmentation, ("PatientOrientation",))
    if "PatientOrientation" not in segmentation:
        segmentation.PatientOrientation = None


def _add_nominal_plane(segmentation: Segmentation, source: Dataset, frame_of_reference: str) -> None:
    """Say where the frames lie for viewers that draw nothing else: nominal, in a space that nothing shares.

    The plane macros presume a Frame of Reference relative to the patient (PS3.3 A.51.5), which a projection does not
    have; the conformance statement declares this. highdicom accepts no plane without one, hence afterwards.
    """
    segmentation.FrameOfReferenceUID = frame_of_reference
    segmentation.PositionReferenceIndicator = None
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = NOMINAL_ORIENTATION
    measures.PixelSpacing = [f"{value:.6g}" for value in shown_spacing(source) or (1, 1)]
    measures.SliceThickness = measures.SpacingBetweenSlices = "1"
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelMeasuresSequence = Sequence([measures])
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        position = Dataset()
        position.ImagePositionPatient = [0, 0, 0]
        frame.PlanePositionSequence = Sequence([position])
    _index_by_position(segmentation)


def _index_by_position(segmentation: Segmentation) -> None:
    """Make the position the frames' second dimension, the same for all: dwv takes no SEG without it."""
    index = Dataset()
    index.DimensionOrganizationUID = segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID
    index.DimensionIndexPointer = tag_for_keyword("ImagePositionPatient")
    index.FunctionalGroupPointer = tag_for_keyword("PlanePositionSequence")
    index.DimensionDescriptionLabel = "Image Position Patient"
    segmentation.DimensionIndexSequence.append(index)
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        content = frame.FrameContentSequence[0]
        content.DimensionIndexValues = [content.DimensionIndexValues, 1]
