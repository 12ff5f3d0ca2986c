"""Objects for viewers: our own and those that no profile makes, and dcmqi as a peer that reads them."""

import copy
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from numpy.typing import NDArray
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

import builders
import results

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"

P = ParamSpec("P")


def _made_once(make: Callable[P, Dataset]) -> Callable[P, Dataset]:
    """Let tests change what they get: it is made once, and each gets a copy."""
    made: dict[str, Dataset] = {}

    @wraps(make)
    def copied(*args: P.args, **kwargs: P.kwargs) -> Dataset:
        key = repr((args, kwargs))
        if key not in made:
            made[key] = make(*args, **kwargs)
        return copy.deepcopy(made[key])

    return copied


def named(value: str, scheme: str = "DCM") -> Sequence:
    """Give a code sequence with that one code."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "meaning"
    return Sequence([item])


@_made_once
def seg(profile: str = "ohif", **source: Any) -> Dataset:
    """Give our SEG of one radiograph, as its reader finds it."""
    return results.written(results.objects(results.source(**source), profile=profile)[0].dataset)


@_made_once
def sr(profile: str = "ohif") -> Dataset:
    """Give our SR of one radiograph, as its reader finds it."""
    return results.written(results.objects(results.source(), profile=profile)[-1].dataset)


def comprehensive_sr() -> Dataset:
    """Give our SR for Stone."""
    return sr("stone")


@_made_once
def text_sr() -> Dataset:
    """Give a Basic Text SR with one sentence."""
    report, sentence = Dataset(), Dataset()
    report.SOPClassUID, report.SOPInstanceUID = BASIC_TEXT_SR, generate_uid()
    report.PatientName, report.PatientID, report.Modality = "Muster^Erika", "PAT-0001", "SR"
    report.ValueType, report.ConceptNameCodeSequence = "CONTAINER", named("18748-4", "LN")
    sentence.RelationshipType, sentence.ValueType = "CONTAINS", "TEXT"
    sentence.ConceptNameCodeSequence, sentence.TextValue = named("121071"), "Erika Muster has a finding."
    report.ContentSequence = Sequence([sentence])
    return read_back(report)


@_made_once
def radiograph() -> Dataset:
    """Give a radiograph with pixels."""
    return read_back(builders.radiograph_dataset(pixels=builders.thorax_pixels(40, 32)))


def secondary_capture() -> Dataset:
    """Give a Secondary Capture with pixels."""
    capture = radiograph()
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    return capture


@_made_once
def presentation_state() -> Dataset:
    """Give a presentation state with an outline and a text."""
    source, layer = radiograph(), GraphicLayer("AI", 1)
    corners = np.array([[1.0, 1.0], [9.0, 1.0], [9.0, 9.0], [1.0, 1.0]])
    outline = GraphicObject(GraphicTypeValues.POLYLINE, corners, AnnotationUnitsValues.PIXEL)
    words = TextObject("Erika Muster", AnnotationUnitsValues.PIXEL, anchor_point=(5.0, 5.0))
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[source],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="cxr-triage project",
        manufacturer_model_name="cxr-triage",
        software_versions="1",
        device_serial_number="1",
        content_label="CXR",
        graphic_annotations=[GraphicAnnotation([source], layer, graphic_objects=[outline], text_objects=[words])],
        graphic_layers=[layer],
    )
    return read_back(state)


@_made_once
def key_objects() -> Dataset:
    """Give a key object selection of one image."""
    source = radiograph()
    document = KeyObjectSelectionDocument(
        [source],
        KeyObjectSelection(codes.DCM.ForReferringProvider, referenced_objects=[source]),
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="cxr-triage project",
    )
    return read_back(document)


def file_of(dataset: Dataset, path: Path) -> Path:
    """Write an object, whatever it lacks."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def read_back(dataset: Dataset) -> Dataset:
    """Give an object as its reader finds it."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


def measurements(report: Dataset) -> Dataset:
    """Give the Imaging Measurements of a report."""
    found: list[Dataset] = [item for item in report.ContentSequence if _name(item) == "126010"]
    return found[0]


def groups(report: Dataset) -> list[Dataset]:
    """Give the measurement groups of a report."""
    return list(measurements(report).ContentSequence)


def regions(report: Dataset) -> list[Dataset]:
    """Give the regions of a report."""
    return [item for group in groups(report) for item in group.ContentSequence if item.ValueType == "SCOORD"]


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def drop(item: Dataset, unwanted: Callable[[Dataset], bool]) -> None:
    """Take content items away from below an item."""
    item.ContentSequence = Sequence([child for child in item.ContentSequence if not unwanted(child)])


def dcmqi_masks(dataset: Dataset, folder: Path) -> list[list[list[bool]]]:
    """Let segimage2itkimage read a SEG; give its masks by segment, (segments, Rows, Columns), as nested lists."""
    return [_nrrd(image).tolist() for image in _segments(dataset, folder)[1]]


def dcmqi_reads_seg(dataset: Dataset, folder: Path) -> bool:
    """Let segimage2itkimage read a SEG; whether it wrote an image for each segment, and each has its pixels."""
    done, images = _segments(dataset, folder)
    return done == 0 and len(images) == 3 and all(any(_content(image)[1]) for image in images)


def dcmqi_numbers(dataset: Dataset, folder: Path) -> list[tuple[str, str, float]]:
    """Let tid1500reader read an SR; give (tracking identifier, code of the quantity, value) in its order."""
    return [
        (group["TrackingIdentifier"], item["quantity"]["CodeValue"], float(item["value"]))
        for group in _measured(dataset, folder)[1]
        for item in group.get("measurementItems", ())
    ]


def dcmqi_reads_sr(dataset: Dataset, folder: Path) -> bool:
    """Let tid1500reader read an SR; whether it found measurement groups, and all that there are."""
    done, found = _measured(dataset, folder)
    return done == 0 and bool(found)


def _segments(dataset: Dataset, folder: Path) -> tuple[int, list[Path]]:
    """Exit status of segimage2itkimage, and the images that it wrote, by segment."""
    made = folder / "segments"
    made.mkdir()
    file = file_of(dataset, folder / "seg.dcm")
    done = _run("segimage2itkimage", "--inputDICOM", file, "--outputDirectory", made, "--outputType", "nrrd")
    return done, sorted(made.glob("*.nrrd"))


def _measured(dataset: Dataset, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """Exit status of tid1500reader, and the measurement groups that it found."""
    made, file = folder / "sr.json", file_of(dataset, folder / "sr.dcm")
    done = _run("tid1500reader", "--inputDICOM", file, "--outputMetadata", made)
    found = json.loads(made.read_text(encoding="utf-8")).get("Measurements") or [] if made.exists() else []
    return done, found


def _nrrd(path: Path) -> NDArray[np.bool_]:
    """Pixels of an NRRD file of one plane of shorts: (Rows, Columns)."""
    header, content = _content(path)
    sizes = next(line for line in header.splitlines() if line.startswith("sizes:"))
    columns, rows = (int(size) for size in sizes.split()[1:3])
    return np.frombuffer(content, "<i2").reshape(rows, columns) > 0


def _content(path: Path) -> tuple[str, bytes]:
    """Header and pixels of an NRRD file, gzip or raw."""
    header, _, pixels = path.read_bytes().partition(b"\n\n")
    return header.decode("ascii"), gzip.decompress(pixels) if b"gzip" in header else pixels


def _run(tool: str, *arguments: str | Path) -> int:
    command = [Path(sys.executable).with_name(tool), *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


def air_seg() -> Dataset:
    """Give a SEG as AI Results has it, of an image that is not square."""
    return seg("air", rows=40, columns=32)


def wide_seg() -> Dataset:
    """Give a SEG whose rows end within a byte."""
    return seg("air", rows=40, columns=29)


def placed_seg() -> Dataset:
    """Give a SEG with a nominal plane."""
    return seg("ohif", rows=40, columns=32)


#: What each viewer draws as it is.
DRAWN = [
    *(("ohif", make) for make in (seg, sr, text_sr, secondary_capture)),
    *(("stone", make) for make in (comprehensive_sr, text_sr, secondary_capture)),
    *(("weasis", make) for make in (air_seg, presentation_state, sr, text_sr)),
    *(("weasis", make) for make in (key_objects, secondary_capture)),
    *(("dcmqi", make) for make in (seg, sr)),
]


UNKNOWN = [
    *(("ohif", make) for make in (presentation_state, key_objects)),
    *(("stone", make) for make in (seg, presentation_state, key_objects)),
    *(("dcmqi", make) for make in (presentation_state, key_objects, radiograph)),
]
