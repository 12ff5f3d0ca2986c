"""A radiograph looks the same however its vendor stored it, and says what it knows of itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForProcessing

from builders import lookup_table, radiograph_file, thorax_pixels
from cxr_triage.model.errors import UnreadableImageError
from cxr_triage.model.radiograph import Radiograph, read_radiograph

PIXELS = thorax_pixels()
#: What the default display shows of the builder's 12-bit thorax.
SHOWN = PIXELS / np.float32(4095)


def read(folder: Path, *, pixels: NDArray[Any] | None = None, **tags: Any) -> Radiograph:
    """Write a radiograph and read it."""
    return read_radiograph(radiograph_file(folder, pixels=pixels, **tags))


def coded(value: str, meaning: str) -> Dataset:
    """Make a SNOMED CT code item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def assert_shows(expected: NDArray[Any], radiograph: Radiograph, tolerance: float = 1e-6) -> None:
    """Compare what is shown."""
    assert radiograph.pixels_HW.dtype == np.float32
    assert radiograph.pixels_HW.shape == expected.shape
    assert np.abs(radiograph.pixels_HW - expected).max() <= tolerance


def test_without_voi_the_stored_range_is_shown(tmp_path: Path) -> None:
    """Values that use most of their range are P-Values over that range."""
    assert_shows(SHOWN, read(tmp_path))


def test_without_voi_a_narrow_range_is_stretched(tmp_path: Path) -> None:
    """An image that uses a fraction of 16 bits is shown between its own extremes."""
    shown = read(tmp_path, pixels=PIXELS + np.uint16(500), BitsStored=16, HighBit=15).pixels_HW

    assert shown.min() == 0
    assert shown.max() == 1
    assert np.corrcoef(shown.ravel(), PIXELS.ravel())[0, 1] > 0.999


def test_padding_does_not_stretch(tmp_path: Path) -> None:
    """Pixel padding is no part of the image's range."""
    padded = (PIXELS // 4 + 8000).astype(np.uint16)
    padded[:30] = 0
    shown = read(tmp_path, pixels=padded, BitsStored=16, HighBit=15, PixelPaddingValue=0).pixels_HW

    assert shown[30:].max() - shown[30:].min() == 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_any_depth_shows_the_same(tmp_path: Path, bits: int) -> None:
    """The same film in 8 to 16 bits looks the same."""
    top = 2**bits - 1
    pixels = np.rint(SHOWN * top).astype(np.uint8 if bits == 8 else np.uint16)

    assert_shows(SHOWN, read(tmp_path, pixels=pixels, BitsStored=bits, HighBit=bits - 1), tolerance=0.51 / top)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_signed_pixels(tmp_path: Path, bits: int) -> None:
    """Signed pixels show the same as unsigned ones."""
    top = 2**bits - 1
    pixels = (np.rint(SHOWN * top).astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)
    radiograph = read(tmp_path, pixels=pixels, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=1)

    assert_shows(SHOWN, radiograph, tolerance=0.51 / top)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_monochrome1_is_inverted_once(tmp_path: Path, bits: int) -> None:
    """MONOCHROME1 with inverted pixels is the same film, with and without INVERSE, window and LUT."""
    top = 2**bits - 1
    pixels = np.rint(SHOWN * top).astype(np.uint8 if bits == 8 else np.uint16)
    common: dict[str, Any] = {"BitsStored": bits, "HighBit": bits - 1}
    upright = read(tmp_path, pixels=pixels, **common).pixels_HW
    for shape in ("INVERSE", None):
        inverted = read(
            tmp_path,
            pixels=(top - pixels).astype(pixels.dtype),
            PhotometricInterpretation="MONOCHROME1",
            PresentationLUTShape=shape,
            **common,
        )
        assert_shows(upright, inverted, tolerance=2e-6)


def test_presentation_lut_shape_inverse_alone_inverts(tmp_path: Path) -> None:
    """INVERSE inverts, even where the photometric interpretation forgot."""
    assert_shows(1 - SHOWN, read(tmp_path, PresentationLUTShape="INVERSE"))


def test_inversion_follows_the_window(tmp_path: Path) -> None:
    """Values beyond the window are black in MONOCHROME2 and white in MONOCHROME1: the window comes first."""
    window: dict[str, Any] = {"WindowCenter": "1000.5", "WindowWidth": "1001"}
    upright = read(tmp_path, **window).pixels_HW
    inverted = read(tmp_path, PhotometricInterpretation="MONOCHROME1", **window).pixels_HW

    assert_shows(np.clip((PIXELS - 500.0) / 1000, 0, 1), read(tmp_path, **window))
    assert np.allclose(1 - upright, inverted)


def test_linear_window(tmp_path: Path) -> None:
    """The formula of PS3.3 C.11.2.1.2.1, with its half a pixel."""
    expected = np.clip((PIXELS - (2047.5 - 0.5)) / (2000 - 1) + 0.5, 0, 1)

    assert_shows(expected, read(tmp_path, WindowCenter="2047.5", WindowWidth="2000"))
    assert_shows(expected, read(tmp_path, WindowCenter="2047.5", WindowWidth="2000", VOILUTFunction="LINEAR"))


def test_exact_window(tmp_path: Path) -> None:
    """The formula of PS3.3 C.11.2.1.3.2."""
    radiograph = read(tmp_path, WindowCenter="2000", WindowWidth="2000", VOILUTFunction="LINEAR_EXACT")

    assert_shows(np.clip((PIXELS - 2000.0) / 2000 + 0.5, 0, 1), radiograph)


def test_sigmoid_window(tmp_path: Path) -> None:
    """The formula of PS3.3 C.11.2.1.3.1."""
    radiograph = read(tmp_path, WindowCenter="2000", WindowWidth="1000", VOILUTFunction="SIGMOID")

    assert_shows(1 / (1 + np.exp(-4 * (PIXELS - 2000.0) / 1000)), radiograph)


def test_first_of_several_windows(tmp_path: Path) -> None:
    """Several windows are alternatives: the first is the default."""
    one = read(tmp_path, WindowCenter="2048", WindowWidth="4096")
    several = read(tmp_path, WindowCenter=["2048", "100"], WindowWidth=["4096", "50"])

    assert_shows(one.pixels_HW, several)


@pytest.mark.parametrize("width", ["0", "-5", None])
def test_impossible_window_is_ignored(tmp_path: Path, width: str | None) -> None:
    """A window without width is no window."""
    path = radiograph_file(tmp_path, WindowCenter="2048", WindowWidth="1") if width is None else None
    radiograph = read(tmp_path, WindowCenter="2048", WindowWidth=width) if path is None else read_radiograph(path)

    assert_shows(SHOWN if width is not None else (PIXELS > 2047.5).astype(np.float32), radiograph)


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    """The window is in units of the rescaled values."""
    radiograph = read(tmp_path, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="3000.5", WindowWidth="4001")

    assert_shows(np.clip((2.0 * PIXELS - 1000 - 1000) / 4000, 0, 1), radiograph)


def test_rescale_without_window_changes_nothing(tmp_path: Path) -> None:
    """Without a VOI the whole rescaled range is shown."""
    assert_shows(SHOWN, read(tmp_path, RescaleSlope="0.25", RescaleIntercept="-77"))


@pytest.mark.parametrize("bits", [8, 9, 10, 11, 12, 13, 14, 15, 16])
def test_voi_lut_is_scaled_by_its_own_depth(tmp_path: Path, bits: int) -> None:
    """A VOI LUT of 8 to 16 bits gives the same film: its output depth is not that of the pixels."""
    curve = np.sqrt(np.arange(4096) / 4095)
    top = 2**bits - 1
    radiograph = read(tmp_path, VOILUTSequence=[lookup_table(np.rint(curve * top), bits=bits)])

    assert_shows(curve[PIXELS].astype(np.float32), radiograph, tolerance=0.51 / top)


def test_voi_lut_with_a_first_value(tmp_path: Path) -> None:
    """Values below the table get its first entry, values above it the last."""
    radiograph = read(tmp_path, VOILUTSequence=[lookup_table(np.arange(1000, dtype=np.uint16), first=1000, bits=10)])

    assert_shows(np.clip(PIXELS.astype(np.int64) - 1000, 0, 999) / 1023, radiograph)


def test_voi_lut_of_packed_bytes(tmp_path: Path) -> None:
    """Eight-bit entries may come one to a byte."""
    item = lookup_table(np.zeros(4096, np.uint16), bits=8)
    item["LUTData"].value = (np.arange(4096) >> 4).astype(np.uint8).tobytes()

    assert_shows((PIXELS >> 4) / 255, read(tmp_path, VOILUTSequence=[item]))


def test_voi_lut_of_65536_entries(tmp_path: Path) -> None:
    """Zero in the descriptor stands for 65536 entries (PS3.3 C.11.2.1.1)."""
    item = lookup_table(np.arange(65536))

    assert_shows(PIXELS / 65535, read(tmp_path, VOILUTSequence=[item], BitsStored=16, HighBit=15))


def test_voi_lut_on_negative_values(tmp_path: Path) -> None:
    """The first value is signed where the rescaled values are, whatever VR it was written in."""
    table = np.arange(4096, dtype=np.uint16)
    for vr, first in (("SS", -1024), ("US", 65536 - 1024)):
        item = lookup_table(table, first=first, bits=12, descriptor_vr=vr)
        radiograph = read(tmp_path, RescaleSlope="1", RescaleIntercept="-1024", VOILUTSequence=[item])
        assert_shows(SHOWN, radiograph)


def test_voi_lut_before_window(tmp_path: Path) -> None:
    """Where both are there, the LUT is shown."""
    table = lookup_table(np.arange(4096, dtype=np.uint16), bits=12)

    assert_shows(SHOWN, read(tmp_path, VOILUTSequence=[table], WindowCenter="10", WindowWidth="5"))


def test_modality_lut(tmp_path: Path) -> None:
    """A Modality LUT comes first; the window is in its units."""
    radiograph = read(tmp_path, ModalityLUTSequence=[lookup_table(np.arange(4096)[::-1], bits=12)])

    assert_shows(1 - SHOWN, radiograph)


def test_lut_without_descriptor_is_refused(tmp_path: Path) -> None:
    """A lookup table that cannot be read is not passed over in silence."""
    item = lookup_table(np.arange(16))
    del item["LUTDescriptor"]
    with pytest.raises(UnreadableImageError, match="LUT Descriptor"):
        read(tmp_path, VOILUTSequence=[item])


def test_short_lut_is_refused(tmp_path: Path) -> None:
    """Nor is one that is shorter than it says."""
    item = lookup_table(np.arange(4096))
    item["LUTData"].value = b"\1\2"
    with pytest.raises(UnreadableImageError, match="shorter"):
        read(tmp_path, VOILUTSequence=[item])


RAW = {"SOPClassUID": DigitalXRayImageStorageForProcessing, "PresentationIntentType": "FOR PROCESSING"}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("relationship", ["LIN", "LOG"])
def test_for_processing_is_normalised(tmp_path: Path, relationship: str, sign: int) -> None:
    """Exposure becomes density: logarithm where linear, dense is bright whatever the sign."""
    density = 0.2 + 0.8 * SHOWN
    signal = np.exp(-4 * density) if relationship == "LIN" else 1 - density
    pixels = np.rint(60000 * (signal if sign == 1 else signal.max() - signal + 0.001)).astype(np.uint16)
    radiograph = read(
        tmp_path,
        pixels=pixels,
        BitsStored=16,
        HighBit=15,
        PixelIntensityRelationship=relationship,
        PixelIntensityRelationshipSign=sign,
        PhotometricInterpretation="MONOCHROME1" if sign == 1 else "MONOCHROME2",
        **RAW,
    )

    assert np.corrcoef(radiograph.pixels_HW.ravel(), density.ravel())[0, 1] > 0.8
    assert radiograph.pixels_HW.min() == 0
    assert radiograph.pixels_HW.max() == 1


def test_for_processing_without_meaning_is_refused(tmp_path: Path) -> None:
    """Raw pixels that do not say what they are, are not shown as if they were for presentation."""
    for tags in (RAW, {**RAW, "PresentationIntentType": None}, {"PresentationIntentType": "FOR PROCESSING"}):
        with pytest.raises(UnreadableImageError, match="Pixel Intensity Relationship"):
            read(tmp_path, **tags)


@pytest.mark.parametrize(
    ("tags", "spacing", "source"),
    [
        ({"ImagerPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "detector"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "detector"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.18, 0.18]}, (0.18, 0.18), "calibrated"),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"},
            (0.2, 0.2),
            "calibrated",
        ),
        ({"ImagerPixelSpacing": None, "PixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "detector"),
        (
            {"ImagerPixelSpacing": [0.22, 0.22], "EstimatedRadiographicMagnificationFactor": "1.1"},
            (0.2, 0.2),
            "calibrated",
        ),
        ({"ImagerPixelSpacing": None, "NominalScannedPixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "detector"),
        ({"ImagerPixelSpacing": [0, 0]}, None, None),
        ({"ImagerPixelSpacing": "0.2"}, None, None),
        ({"ImagerPixelSpacing": None}, None, None),
    ],
)
def test_spacing(tmp_path: Path, tags: dict[str, Any], spacing: tuple[float, float] | None, source: str | None) -> None:
    """Where millimetres are measured: PS3.3 10.7.1."""
    radiograph = read(tmp_path, **tags)

    assert source == radiograph.spacing_source
    assert pytest.approx(spacing) == radiograph.spacing_mm


@pytest.mark.parametrize(
    ("tags", "aspect"),
    [
        ({"ImagerPixelSpacing": None}, 1),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": [3, 2]}, 1.5),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": [2, 3]}, 2 / 3),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, 1.5),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelAspectRatio": [3, 2]}, 1),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": [0, 2]}, 1),
        ({"ImagerPixelSpacing": None, "PixelAspectRatio": [1, 100]}, 1),
        ({"ImagerPixelSpacing": [9, 0.02]}, 1),
    ],
)
def test_pixel_aspect(tmp_path: Path, tags: dict[str, Any], aspect: float) -> None:
    """Spacing says it, else Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7); impossible pixels are square."""
    assert read(tmp_path, **tags).pixel_aspect == pytest.approx(aspect)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("tags", "age"),
    [
        ({"PatientAge": "059Y"}, 59),
        ({"PatientAge": "18Y"}, 18),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "003W"}, 21 / 365.25),
        ({"PatientAge": "010D"}, 10 / 365.25),
        ({"PatientAge": ""}, 59),
        ({"PatientAge": "000Y"}, 59),
        ({"PatientAge": "", "PatientBirthDate": "20060305"}, 17),
        ({"PatientAge": "", "PatientBirthDate": "20060304"}, 18),
        ({"PatientAge": "", "PatientBirthDate": "1964.08.12"}, 59),
        ({"PatientAge": "", "PatientBirthDate": "18000101"}, None),
        ({"PatientAge": "", "PatientBirthDate": "20990101"}, None),
        ({"PatientAge": "", "PatientBirthDate": ""}, None),
        ({"PatientAge": "999Y", "PatientBirthDate": ""}, None),
        ({"PatientAge": None, "StudyDate": ""}, None),
    ],
)
def test_age(tmp_path: Path, tags: dict[str, Any], age: float | None) -> None:
    """Age as stated, else by dates, else unknown."""
    assert pytest.approx(age) == read(tmp_path, **tags).age_years


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_view_body_part_and_orientation(tmp_path: Path) -> None:
    """Plain attributes first, codes where these are empty."""
    plain = read(tmp_path, ViewPosition="ap ", BodyPartExamined="chest")
    by_code = read(
        tmp_path,
        ViewPosition="",
        BodyPartExamined="",
        ViewCodeSequence=[coded("399173006", "left lateral")],
        AnatomicRegionSequence=[coded("51185008", "Thorax")],
        PatientOrientation=["R", "F"],
    )
    unknown = read(tmp_path, ViewPosition=None, BodyPartExamined=None, PatientOrientation=None)

    facts = [(image.view, image.body_part, image.patient_orientation) for image in (plain, by_code, unknown)]
    assert facts == [("AP", "CHEST", ("L", "F")), ("LL", "THORAX", ("R", "F")), ("", "", None)]


def test_odd_values_are_unknown_and_not_errors(tmp_path: Path) -> None:
    """Values that do not fit their VR leave the image readable."""
    path = radiograph_file(tmp_path, RescaleSlope="1", RescaleIntercept="0", WindowCenter="2048", WindowWidth="4096")
    content = path.read_bytes()
    content = content.replace(b"059Y", b"old!").replace(b"19640812", b"19649999").replace(b"4096", b"wide")
    path.write_bytes(content)
    radiograph = read_radiograph(path)

    assert radiograph.age_years is None
    assert_shows(SHOWN, radiograph)


def test_computed_radiography(tmp_path: Path) -> None:
    """CR without intent is taken as for presentation."""
    radiograph = read(tmp_path, SOPClassUID=ComputedRadiographyImageStorage, PresentationIntentType=None)

    assert_shows(SHOWN, radiograph)
    assert radiograph.sop_class_uid == ComputedRadiographyImageStorage


def test_species(tmp_path: Path) -> None:
    """An animal says so."""
    assert read(tmp_path, PatientSpeciesDescription="canine").species == "CANINE"
    assert read(tmp_path, PatientSpeciesCodeSequence=[coded("448771007", "Canis lupus")]).species == "CANIS LUPUS"


@pytest.mark.parametrize("content", [b"", b"no DICOM at all", bytes(132) + b"DICM", bytes(4096)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """What is not DICOM is said to be not DICOM."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError):
        read_radiograph(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.95])
def test_cut_off_files_are_refused(tmp_path: Path, share: float) -> None:
    """A file that ends early is refused wherever it ends."""
    path = radiograph_file(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UnreadableImageError):
        read_radiograph(path)


def test_refusals_carry_no_patient_data(tmp_path: Path) -> None:
    """Neither name nor identifiers stand in an error's text."""
    path = radiograph_file(tmp_path, PhotometricInterpretation="RGB")
    with pytest.raises(UnreadableImageError) as refused:
        read_radiograph(path)

    assert not any(word in str(refused.value) for word in ("Muster", "PAT-0001", "ACC-0001", "19640812"))


@pytest.mark.parametrize(
    "name", ["SC_rgb_jpeg.dcm", "examples_palette.dcm", "rtplan.dcm", "rtdose.dcm", "MR_truncated.dcm", "test-SR.dcm"]
)
def test_pydicoms_other_files_are_refused(name: str) -> None:
    """Colour, plans, doses, reports and cut-off images are refused with a reason."""
    with pytest.raises(UnreadableImageError):
        read_radiograph(pydicom_file(name))


@pytest.mark.parametrize(
    "name",
    [
        *("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_implicit.dcm"),
        *("MR_small_bigendian.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG-lossy.dcm", "JPGExtended.dcm"),
        *("J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm", "JPEGLSNearLossless_16.dcm", "JPEGLSNearLossless_08.dcm"),
    ],
)
def test_pydicoms_grey_files_are_read(name: str) -> None:
    """Whatever is one grey frame is read, in the syntaxes of many writers."""
    radiograph = read_radiograph(pydicom_file(name))

    assert 0 <= radiograph.pixels_HW.min() < radiograph.pixels_HW.max() <= 1


def test_one_image_in_five_syntaxes() -> None:
    """The MR image of pydicom looks the same in each of its transfer syntaxes."""
    names = ("RLE", "jp2klossless", "implicit", "bigendian", "jpeg_ls_lossless")
    plain = read_radiograph(pydicom_file("MR_small.dcm"))
    for name in names:
        assert_shows(plain.pixels_HW, read_radiograph(pydicom_file(f"MR_small_{name}.dcm")))


def pydicom_file(name: str) -> Path:
    """Find a file of pydicom's own test data, nothing downloaded."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)
