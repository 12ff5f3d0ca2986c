"""Make the demo's DICOM files from NIH ChestX-ray14 JPEGs and highdicom's veterinary test image.

A maintainer's tool: the files that it writes are kept in `daemon/demo/radiographs`, so nobody needs the sources to
run the demo. It writes the same bytes every time.

    .venv/bin/python benchmarks/make_demo_radiographs.py NIH_FOLDER VETERINARY_DX daemon/demo/radiographs

NIH_FOLDER holds `<image index>.jpg`, 512 x 512, 8 bit, as resized from the published 1024 x 1024 PNGs.
All chosen patients are in the test part of the split that the bundled weights were trained with.
"""

import argparse
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

import gdcm
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

#: UIDs are 2.25 + UUIDv5 of a name in this namespace: the same names give the same files.
NAMESPACE = uuid.UUID("6f5b3f0e-5b0b-5c0e-9a55-0d8f4f5c6e01")
NIH_ATTRIBUTION = (
    "Fictitious patient. Pixels: NIH ChestX-ray14 image {index}, provided by the NIH Clinical Center "
    "(https://nihcc.app.box.com/v/ChestXray-NIHCC); Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM, ChestX-ray8, "
    "IEEE CVPR 2017. Resized from 1024 to 512 pixels; names, identifiers, dates, equipment and spacing are invented."
)
VETERINARY_ATTRIBUTION = (
    "Fictitious patient. Pixels: lateral thorax of a dog, test data of highdicom (MIT licence, "
    "Copyright 2020 MGH Computational Pathology). Names, identifiers, dates and equipment are invented; "
    "view, body part and age are left out so that the image has to speak for itself."
)


DX = DigitalXRayImageStorageForPresentation
CR = ComputedRadiographyImageStorage

#: Imager Pixel Spacing (0018,1164) is Type 1 in DX and not published with the pixels: a detector of the usual 430 mm.
NOMINAL_SPACING_MM = ["0.84", "0.84"]
VETERINARY_SPACING_MM = ["1.2", "1.2012"]
#: PS3.16 CID 4010 DX View.
VIEW_CODES = {
    "PA": Code("399348003", "SCT", "postero-anterior"),
    "AP": Code("399067008", "SCT", "antero-posterior"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One file of the demo."""

    file: str
    #: Image index of ChestX-ray14; empty = the veterinary image.
    index: str = ""
    name: str
    sex: str = ""
    #: Completed years, as published; None = left out.
    age: int | None = None
    view: str = ""
    sop_class: UID
    transfer_syntax: UID
    #: Stored as MONOCHROME1 with 12 bits instead of MONOCHROME2 with 8.
    inverted_12_bit: bool = False
    #: Second image of the study before it.
    instance: int = 1
    #: Share of the compressed pixel data that is kept.
    kept: float = 1.0


RECIPES = (
    Recipe(
        file="01-acacia-dx.dcm",
        index="00003940_000",
        name="ACACIA",
        sex="F",
        age=41,
        view="PA",
        sop_class=DX,
        transfer_syntax=ExplicitVRLittleEndian,
    ),
    Recipe(
        file="02-birch-cr.dcm",
        index="00024028_000",
        name="BIRCH",
        sex="M",
        age=54,
        view="PA",
        sop_class=CR,
        transfer_syntax=RLELossless,
    ),
    Recipe(
        file="03-cedar-cr.dcm",
        index="00014285_000",
        name="CEDAR",
        sex="F",
        age=64,
        view="AP",
        sop_class=CR,
        transfer_syntax=JPEGLSLossless,
    ),
    Recipe(
        file="04-dogwood-dx.dcm",
        index="00006626_000",
        name="DOGWOOD",
        sex="F",
        age=28,
        view="PA",
        sop_class=DX,
        transfer_syntax=JPEG2000Lossless,
    ),
    Recipe(
        file="05-elder-cr-a.dcm",
        index="00001820_002",
        name="ELDER",
        sex="M",
        age=46,
        view="AP",
        sop_class=CR,
        transfer_syntax=JPEGLosslessSV1,
    ),
    Recipe(
        file="06-elder-cr-b.dcm",
        index="00001820_003",
        name="ELDER",
        sex="M",
        age=46,
        view="AP",
        sop_class=CR,
        transfer_syntax=JPEGLosslessSV1,
        instance=2,
    ),
    Recipe(
        file="07-fir-dx-monochrome1.dcm",
        index="00016340_000",
        name="FIR",
        sex="M",
        age=76,
        view="PA",
        sop_class=DX,
        transfer_syntax=ExplicitVRLittleEndian,
        inverted_12_bit=True,
    ),
    Recipe(
        file="08-ginkgo-dx.dcm",
        index="00006004_000",
        name="GINKGO",
        sex="M",
        age=27,
        view="PA",
        sop_class=DX,
        transfer_syntax=JPEGLosslessSV1,
    ),
    Recipe(
        file="09-hazel-cr.dcm",
        index="00028012_000",
        name="HAZEL",
        sex="M",
        age=71,
        view="AP",
        sop_class=CR,
        transfer_syntax=JPEGLSLossless,
    ),
    Recipe(
        file="10-juniper-cr.dcm",
        index="00014998_000",
        name="JUNIPER",
        sex="F",
        age=35,
        view="PA",
        sop_class=CR,
        transfer_syntax=ImplicitVRLittleEndian,
    ),
    Recipe(
        file="11-larch-dx.dcm",
        index="00004080_000",
        name="LARCH",
        sex="M",
        age=37,
        view="PA",
        sop_class=DX,
        transfer_syntax=JPEG2000Lossless,
    ),
    Recipe(file="12-maple-not-a-chest.dcm", name="MAPLE", sop_class=DX, transfer_syntax=ExplicitVRLittleEndian),
    Recipe(
        file="13-oak-broken.dcm",
        index="00028751_000",
        name="OAK",
        sex="F",
        age=24,
        view="PA",
        sop_class=DX,
        transfer_syntax=JPEGLSLossless,
        kept=0.4,
    ),
)


def derived_uid(*parts: str) -> UID:
    """A UID that depends on nothing but its parts."""
    return UID(f"2.25.{uuid.uuid5(NAMESPACE, '/'.join(parts)).int}")


def code_item(code: Code) -> Dataset:
    """One item of a code sequence (PS3.3 Table 8.8-1)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def add_patient_and_study(ds: Dataset, recipe: Recipe, number: int) -> None:
    """Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): nothing here comes from a real person's record."""
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = f"DEMO^{recipe.name}"
    ds.PatientID = f"DEMO-{recipe.name}"
    ds.IssuerOfPatientID = "CXR-TRIAGE DEMO"
    ds.PatientBirthDate = ""
    ds.PatientSex = recipe.sex
    if recipe.age is not None:
        ds.PatientAge = f"{recipe.age:03d}Y"
    ds.StudyInstanceUID = derived_uid("study", recipe.name)
    ds.StudyID = f"DEMO{number:02d}"
    ds.StudyDate, ds.StudyTime = "20250102", f"08{number:02d}00"
    ds.AccessionNumber = f"DEMO-{number:04d}"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Demonstration radiograph"


def add_series_and_equipment(ds: Dataset, recipe: Recipe) -> None:
    """General Series, CR Series or DX Series, and General Equipment modules (PS3.3 C.7.3.1, C.8.1.1, C.7.5.1)."""
    ds.Modality = "DX" if recipe.sop_class == DX else "CR"
    ds.SeriesInstanceUID = derived_uid("series", recipe.name)
    ds.SeriesNumber = 1
    ds.Manufacturer = "cxr-triage demonstration"
    ds.ManufacturerModelName = "Image converter"
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "1"
    ds.InstitutionName = "Demonstration Hospital"
    if recipe.view:
        ds.ViewPosition = recipe.view
        ds.BodyPartExamined = "CHEST"
    elif recipe.sop_class == CR:
        ds.ViewPosition = ds.BodyPartExamined = ""


def add_image(ds: Dataset, recipe: Recipe, source_bytes: int | None) -> None:
    """General Image module (PS3.3 C.7.6.1). A JPEG on the way makes the image lossy for ever (C.7.6.1.1.5)."""
    ds.SOPClassUID = recipe.sop_class
    ds.SOPInstanceUID = derived_uid("instance", recipe.file)
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.InstanceNumber = recipe.instance
    ds.AcquisitionDate, ds.AcquisitionTime = ds.StudyDate, ds.StudyTime
    ds.ContentDate, ds.ContentTime = ds.StudyDate, ds.StudyTime
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.PatientOrientation = ["L", "F"]  # also in the veterinary source
    if recipe.index:
        ds.ImageComments = NIH_ATTRIBUTION.format(index=recipe.index)
        ds.DerivationDescription = "Resized, JPEG-compressed, converted to DICOM"
    else:
        ds.ImageComments = VETERINARY_ATTRIBUTION
        ds.DerivationDescription = "Inverted to MONOCHROME2, header replaced"
    if source_bytes is not None:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionMethod = "ISO_10918_1"
        ds.LossyImageCompressionRatio = f"{512 * 512 / source_bytes:.1f}"


def add_dx(ds: Dataset, recipe: Recipe) -> None:
    """DX Series, Anatomy, Image, Detector and Acquisition Context modules (PS3.3 C.8.11.1-4, C.7.6.14)."""
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.ImageLaterality = "U"
    chest = [code_item(Code("43799004", "SCT", "Thorax"))] if recipe.view else []
    ds.AnatomicRegionSequence = chest
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if recipe.inverted_12_bit else -1
    ds.PresentationLUTShape = "INVERSE" if recipe.inverted_12_bit else "IDENTITY"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.DetectorType = ds.PositionerType = ""
    ds.ImagerPixelSpacing = NOMINAL_SPACING_MM if recipe.view else VETERINARY_SPACING_MM
    if recipe.view:
        ds.ViewCodeSequence = [code_item(VIEW_CODES[recipe.view])]
    ds.AcquisitionContextSequence = []


def add_pixels(ds: Dataset, recipe: Recipe, pixels_HW: NDArray[np.uint8]) -> None:
    """Image Pixel and VOI LUT modules (PS3.3 C.7.6.3, C.11.2), not compressed yet."""
    bits = 12 if recipe.inverted_12_bit else 8
    stored = pixels_HW
    if recipe.inverted_12_bit:
        stored = np.round((255 - pixels_HW) * (4095 / 255)).astype("<u2")
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if recipe.inverted_12_bit else "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = stored.itemsize * 8, bits, bits - 1
    ds.PixelRepresentation = 0
    ds.WindowCenter, ds.WindowWidth = str(2 ** (bits - 1)), str(2**bits)
    data = stored.tobytes()
    ds.PixelData = data + b"\x00" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"


def compressed_by_gdcm(ds: FileDataset) -> bytes:
    """The pixel data as JPEG Lossless, Selection Value 1: gdcm is the encoder at hand that writes it."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder, "plain.dcm"), Path(folder, "packed.dcm")
        ds.save_as(plain, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(plain))
        if not reader.Read():
            raise RuntimeError("gdcm cannot read what pydicom wrote")
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError("gdcm cannot compress to JPEG Lossless")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(packed))
        if not writer.Write():
            raise RuntimeError("gdcm cannot write")
        return next(generate_frames(dcmread(packed).PixelData, number_of_frames=1))


def compress(ds: FileDataset, recipe: Recipe) -> None:
    """Change to the recipe's transfer syntax, and cut the code stream where the recipe asks for a broken file."""
    if recipe.transfer_syntax == JPEGLosslessSV1:
        ds.PixelData = encapsulate([compressed_by_gdcm(ds)])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
    elif recipe.transfer_syntax.is_compressed:
        ds.compress(recipe.transfer_syntax, generate_instance_uid=False)
    ds.file_meta.TransferSyntaxUID = recipe.transfer_syntax
    if recipe.kept < 1:
        frame = next(generate_frames(ds.PixelData, number_of_frames=1))
        ds.PixelData = encapsulate([frame[: int(len(frame) * recipe.kept)]])


def empty_file(recipe: Recipe) -> FileDataset:
    """File meta information (PS3.10 section 7.1) and nothing else."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = recipe.sop_class
    meta.MediaStorageSOPInstanceUID = derived_uid("instance", recipe.file)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return FileDataset(recipe.file, {}, file_meta=meta, preamble=b"\x00" * 128)


def source_pixels(recipe: Recipe, nih: Path, veterinary: Path) -> tuple[NDArray[np.uint8], int | None]:
    """Bright = dense, 8 bit; and how many bytes the JPEG took, None if there was none."""
    if not recipe.index:
        return 255 - dcmread(veterinary).pixel_array, None  # MONOCHROME1 in the source
    path = nih / f"{recipe.index}.jpg"
    with Image.open(path) as image:
        return np.asarray(image.convert("L")), path.stat().st_size


def make(recipe: Recipe, number: int, nih: Path, veterinary: Path) -> FileDataset:
    """One file of the demo."""
    pixels_HW, source_bytes = source_pixels(recipe, nih, veterinary)
    ds = empty_file(recipe)
    add_patient_and_study(ds, recipe, number)
    add_series_and_equipment(ds, recipe)
    add_image(ds, recipe, source_bytes)
    if recipe.sop_class == DX:
        add_dx(ds, recipe)
    add_pixels(ds, recipe, pixels_HW)
    compress(ds, recipe)
    return ds


def main() -> None:
    """Write every recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nih", type=Path, help="folder of ChestX-ray14 JPEGs")
    parser.add_argument("veterinary", type=Path, help="highdicom's data/test_files/dx_image.dcm")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(recipe.name for recipe in RECIPES))
    for recipe in RECIPES:
        ds = make(recipe, names.index(recipe.name) + 1, arguments.nih, arguments.veterinary)
        path = arguments.output / recipe.file
        ds.save_as(path, enforce_file_format=True)
        print(f"{path}  {path.stat().st_size} bytes  {recipe.transfer_syntax.name}")


if __name__ == "__main__":
    main()
