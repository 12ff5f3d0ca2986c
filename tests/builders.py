"""What tests are about, in one line each: everything has a sensible default, and a test names what matters to it."""

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pydicom.uid import generate_uid as fresh_uid

from cxr_triage.model.findings import Finding, Measurement
from cxr_triage.model.prediction import BundleIdentity, Prediction
from cxr_triage.storage.image_records import InstanceHeader, ReceivedInstance, StoredFile
from cxr_triage.storage.inbox import DurableFolder
from cxr_triage.storage.result_records import ObjectKind, ResultObject

#: A Monday morning on which every test begins.
MORNING = datetime(2024, 3, 4, 8, 0, tzinfo=UTC)

_numbers = count(1)


def received_instance(**changes: Any) -> ReceivedInstance:
    """Give an image that has just come in; each call another one."""
    number = next(_numbers)
    instance = ReceivedInstance(
        sop_instance_uid=fresh_uid(),
        sop_class_uid=DigitalXRayImageStorageForPresentation,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        calling_ae_title="MODALITY",
        called_ae_title="CXRTRIAGE",
        path=Path("20240304") / f"{number}.dcm",
        sha256=f"{number:064x}",
        size_bytes=8_000_000,
        received_at=MORNING,
    )
    return dataclasses.replace(instance, **changes)


def instance_header(**changes: Any) -> InstanceHeader:
    """Give the header of an image; each call another study."""
    header = InstanceHeader(
        study_instance_uid=fresh_uid(),
        series_instance_uid=fresh_uid(),
        modality="DX",
        view="PA",
        patient_name="Muster^Erika",
        patient_id="PAT-0001",
        issuer_of_patient_id="HOSPITAL",
        patient_birth_date="19640812",
        patient_sex="F",
        accession_number="ACC-0001",
        issuer_of_accession_number="",
        study_id="S-1",
        study_date="20240304",
        study_time="075500",
        study_description="Thorax pa",
        referring_physician_name="Beispiel^Otto",
        specific_character_set="ISO_IR 192",
    )
    return dataclasses.replace(header, **changes)


def finding(label: str = "Pneumothorax", probability: float = 0.9, threshold: float = 0.5) -> Finding:
    """Give one finding, present unless said otherwise."""
    return Finding(label=label, probability=probability, threshold=threshold)


def prediction(**changes: Any) -> Prediction:
    """Give what the network might say of a small image: one finding present, one not."""
    drawn = np.random.default_rng(changes.pop("seed", 1))
    findings: tuple[Finding, ...] = changes.pop("findings", (finding(), finding("Effusion", 0.1, 0.4)))
    result = Prediction(
        bundle=BundleIdentity(name="first", version="1.0.0", sha256="ab" * 32),
        findings=findings,
        abnormal_probability=0.83,
        locations={"left": 0.7, "right": 0.2, "diffuse": 1 / 3},
        measurements=(
            Measurement(name="cardiothoracic_ratio", value=0.52, unit="1"),
            Measurement(name="left_lung_area", value=17234.5, unit="mm2", qualifier="in the detector plane"),
        ),
        masks_CHW=drawn.random((3, 37, 29)) > 0.5,
        saliency_LHW=drawn.integers(0, 256, (len(findings), 16, 16), dtype=np.uint8),
        saliency_frame=(-4.0, 0.0, 45.25, 29.0),
        feature_distance=12.5,
        refusal=None,
    )
    return dataclasses.replace(result, **changes)


def result_object(kind: ObjectKind = ObjectKind.SR, **changes: Any) -> ResultObject:
    """Give a finished object in the outbox; each call another one."""
    number = next(_numbers)
    made = ResultObject(
        kind=kind,
        sop_instance_uid=fresh_uid(),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34" if kind is ObjectKind.SR else "1.2.840.10008.5.1.4.1.1.66.4",
        series_instance_uid=fresh_uid(),
        study_instance_uid=fresh_uid(),
        source_sop_instance_uid="",
        profile="air",
        path=Path("20240304") / f"{number}.dcm",
        sha256=f"{number:064x}",
    )
    return dataclasses.replace(made, **changes)


def store_file(
    folder: DurableFolder, content: bytes | Iterable[bytes], *, sop_instance_uid: str, meta: bytes = b""
) -> StoredFile:
    """Store a file that nobody is about to record."""
    with folder.storing(content, sop_instance_uid=sop_instance_uid, meta=meta) as file:
        return file


def thorax_masks(rows: int = 96, columns: int = 80) -> NDArray[np.bool_]:
    """Draw left lung (on the right), right lung and a heart that overlaps both: (3, rows, columns)."""
    y, x = np.mgrid[0:rows, 0:columns] / np.array([rows, columns]).reshape(2, 1, 1)
    ellipses = ((0.7, 0.5, 0.16, 0.36), (0.3, 0.5, 0.16, 0.36), (0.55, 0.65, 0.16, 0.16))
    return np.stack([((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1 for cx, cy, rx, ry in ellipses])


def thorax_pixels(rows: int = 96, columns: int = 80) -> NDArray[np.uint16]:
    """Draw two dark lungs and a bright heart between them: 12 bits, MONOCHROME2."""
    left, right, heart = thorax_masks(rows, columns)
    pixels = np.full((rows, columns), 3000, np.uint16)
    pixels[left | right] = 900
    pixels[heart] = 3600
    return pixels


def radiograph_file(folder: Path, *, pixels: NDArray[Any] | None = None, **tags: Any) -> Path:
    """Write a small synthetic digital radiograph, each call another study.

    Args:
        folder: where to; the file is named by its SOP Instance UID.
        pixels: unsigned integers of 8 or 16 bits, stored as they are, uncompressed.
        tags: DICOM keywords to set otherwise; None leaves an element out.
    """
    dataset = radiograph_dataset(pixels=pixels, **tags)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def radiograph_dataset(*, pixels: NDArray[Any] | None = None, **tags: Any) -> Dataset:
    """Make what `radiograph_file` writes, in memory."""
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = fresh_uid()
    _describe_study(dataset)
    _describe_image(dataset, thorax_pixels() if pixels is None else pixels)
    for keyword, value in tags.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    if dataset.SOPClassUID == ComputedRadiographyImageStorage and "Modality" not in tags:
        dataset.Modality = "CR"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def modality_lookup_table(entries: Sequence[int] | NDArray[Any], *, bits: int = 16) -> Dataset:
    """Give an item of a Modality LUT Sequence."""
    item = lookup_table(entries, bits=bits)
    item.ModalityLUTType = "US"
    return item


def lookup_table(
    entries: Sequence[int] | NDArray[Any], *, first: int = 0, bits: int = 16, descriptor_vr: str = "US"
) -> Dataset:
    """Give an item of a Modality or VOI LUT Sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", descriptor_vr, [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, dtype="<u2").tobytes())
    return item


def _describe_study(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyInstanceUID = fresh_uid()
    dataset.SeriesInstanceUID = fresh_uid()
    dataset.StudyDate = "20240304"
    dataset.StudyTime = "075500"
    dataset.StudyID = "S-1"
    dataset.StudyDescription = "Thorax pa"
    dataset.AccessionNumber = "ACC-0001"
    dataset.ReferringPhysicianName = "Beispiel^Otto"
    dataset.PatientName = "Muster^Erika"
    dataset.PatientID = "PAT-0001"
    dataset.PatientBirthDate = "19640812"
    dataset.PatientSex = "F"
    dataset.PatientAge = "059Y"
    dataset.Modality = "DX"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1


def _describe_image(dataset: Dataset, pixels: NDArray[Any]) -> None:
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.ImagerPixelSpacing = [4.0, 4.0]
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = 12 if pixels.dtype.itemsize == 2 else 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    dataset.BurnedInAnnotation = "NO"
    dataset.PixelData = pixels.tobytes()
