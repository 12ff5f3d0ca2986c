"""Every transfer syntax that is promised gives back the pixels that were put in."""

import base64
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder

from builders import radiograph_dataset, thorax_pixels
from cxr_triage.model.codecs import DECODERS, READABLE_TRANSFER_SYNTAXES, StoredPixels, decode, pixel_layout
from cxr_triage.model.errors import UnreadableImageError

LOSSLESS_BY_PYDICOM = (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)
#: DCMTK's encoder for what pydicom does not write: program, options.
DCMTK = {
    uid.JPEGLossless: ("/usr/bin/dcmcjpeg", "+el"),
    uid.JPEGLosslessSV1: ("/usr/bin/dcmcjpeg", "+e1"),
    uid.JPEGLSLossless: ("/usr/bin/dcmcjpls", "+el"),
}


#: What OpenJPH 0.26 made, without loss, of `high_throughput_pixels`; no encoder of HTJ2K is installed here.
HIGH_THROUGHPUT = base64.b64decode(
    "/0//UQApQAAAAAAQAAAADAAAAAAAAAAAAAAAEAAAAAwAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCI"
    "kJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAPIAAf+TwAAmb+cEh3QAAMAAE0AAE0AAEgCk"
    "HQWHdAAS9AOHdAD+AGMAwAAVkAAEwAIAAQClQ9LxAoK0AKOlAEI0AMAAFowAAWhAABVASACAkqFkAAAoGUx/+kU2lwDCgJRqlFJC"
    "/UBCAe50lZgAIAqSF0FnM+m2AMAALpIAAXUQAAto1QQABPB5oSdhGwDA6JE+fEIABODzREDOpoV8lXE1zis9fe4AESMIUDYuixYB"
    "pAyABQAWKgJYGYCLlWAGMAW2MYAJuhZUKvTym49SAZvmqEjkKKWmLFzTxSalOobbqn6u8h/7pF4A/9k="
)


def high_throughput_pixels() -> NDArray[np.uint16]:
    """Draw a slope of 16 bits."""
    y, x = np.mgrid[0:12, 0:16]
    slope: NDArray[np.uint16] = (x * 4000 + y * 300 + x * y % 7).astype(np.uint16)
    return slope


def stored(bits: int, *, signed: bool = False) -> NDArray[np.uint16]:
    """Draw a thorax over the whole range of the stored bits, with its extremes and some noise, in 16 bits allocated."""
    span = 2**bits
    noise = np.random.default_rng(bits).integers(0, max(1, span // 64), (96, 80))
    pixels = thorax_pixels().astype(np.int64) * (span - span // 64 - 1) // 4095 + noise
    pixels[0, 0], pixels[0, 1] = 0, span - 1
    if signed:
        pixels -= span // 2
    words: NDArray[np.uint16] = pixels.astype(np.int16).view(np.uint16) if signed else pixels.astype(np.uint16)
    return words


def described(bits: int, *, signed: bool = False, pixels: NDArray[np.uint16] | None = None) -> Dataset:
    """Make an uncompressed image of so many bits stored."""
    dataset = radiograph_dataset(
        pixels=stored(bits, signed=signed) if pixels is None else pixels,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=int(signed),
    )
    dataset["PixelData"].VR = "OW"
    return dataset


def written(dataset: Dataset, path: Path) -> Path:
    """Save a data set as a file."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def read_back(path: Path) -> StoredPixels:
    """Decode a file as the product does."""
    dataset = dcmread(path)
    return decode(dataset, pixel_layout(dataset))


def expected(bits: int, *, signed: bool = False) -> NDArray[np.int64]:
    """Give the values behind `stored`."""
    pixels = stored(bits, signed=signed)
    return (pixels.view(np.int16) if signed else pixels).astype(np.int64)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_native(tmp_path: Path, syntax: uid.UID, bits: int, *, signed: bool) -> None:
    """Uncompressed pixels come back, whatever byte order, depth and sign."""
    dataset = described(bits, signed=signed)
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = stored(bits, signed=signed).byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax

    assert np.array_equal(expected(bits, signed=signed), read_back(written(dataset, tmp_path / "image.dcm")))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 15, 16])
def test_rle(tmp_path: Path, bits: int, *, signed: bool) -> None:
    """RLE comes back, whatever depth and sign."""
    plain, packed = written(described(bits, signed=signed), tmp_path / "plain.dcm"), tmp_path / "packed.dcm"
    subprocess.run(["/usr/bin/dcmcrle", plain, packed], check=True)

    assert np.array_equal(expected(bits, signed=signed), read_back(packed))


@pytest.mark.parametrize("bits", [10, 12, 14, 15, 16])
@pytest.mark.parametrize("syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_lossless_by_pydicom(tmp_path: Path, syntax: uid.UID, bits: int) -> None:
    """JPEG-LS and JPEG 2000 give back each pixel."""
    dataset = described(bits)
    dataset.compress(syntax, generate_instance_uid=False)

    assert np.array_equal(expected(bits), read_back(written(dataset, tmp_path / "image.dcm")))


def test_signed_jpeg_2000(tmp_path: Path) -> None:
    """A signed JPEG 2000 image keeps its sign."""
    dataset = described(12, signed=True)
    dataset.compress(uid.JPEG2000Lossless, generate_instance_uid=False)

    assert np.array_equal(expected(12, signed=True), read_back(written(dataset, tmp_path / "image.dcm")))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("syntax", list(DCMTK))
def test_lossless_by_dcmtk(tmp_path: Path, syntax: uid.UID, bits: int) -> None:
    """What DCMTK compresses without loss comes back pixel by pixel."""
    plain, packed = written(described(bits), tmp_path / "plain.dcm"), tmp_path / "packed.dcm"
    subprocess.run([*DCMTK[syntax], plain, packed], check=True)

    assert dcmread(packed).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(expected(bits), read_back(packed))


def test_eight_bits_allocated(tmp_path: Path) -> None:
    """Eight bits allocated, natively and as JPEG-LS, RLE, JPEG 2000."""
    pixels = (thorax_pixels() >> 4).astype(np.uint8)
    for syntax in (uid.ExplicitVRLittleEndian, *LOSSLESS_BY_PYDICOM):
        dataset = radiograph_dataset(pixels=pixels)
        dataset["PixelData"].VR = "OB"
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)

        assert np.array_equal(pixels, read_back(written(dataset, tmp_path / f"{syntax}.dcm")))


def test_eight_bits_big_endian_words(tmp_path: Path) -> None:
    """Eight-bit pixels that a big endian writer stored as words are swapped back (PS3.5 8.1.1, 7.3)."""
    pixels = (thorax_pixels() >> 4).astype(np.uint8)
    dataset = radiograph_dataset(pixels=pixels)
    dataset.PixelData = pixels.view(np.uint16).byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRBigEndian

    assert np.array_equal(pixels, read_back(written(dataset, tmp_path / "image.dcm")))


def test_deflated(tmp_path: Path) -> None:
    """A deflated data set is inflated by whoever opens it; its pixels are plain."""
    dataset = described(12)
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian

    assert np.array_equal(expected(12), read_back(written(dataset, tmp_path / "image.dcm")))


@pytest.mark.parametrize("option", ["+ee", "+eb"])
@pytest.mark.parametrize("bits", [8, 12])
def test_lossy_jpeg_equals_dcmtk(tmp_path: Path, bits: int, option: str) -> None:
    """JPEG Baseline and Extended, 8 and 12 bit, decode to what DCMTK decodes."""
    plain, packed, unpacked = (tmp_path / name for name in ("plain.dcm", "packed.dcm", "unpacked.dcm"))
    if bits == 8:
        written(radiograph_dataset(pixels=(thorax_pixels() >> 4).astype(np.uint8)), plain)
    else:
        written(described(bits), plain)
    subprocess.run(["/usr/bin/dcmcjpeg", option, "+q", "90", plain, packed], check=True)
    subprocess.run(["/usr/bin/dcmdjpeg", packed, unpacked], check=True)

    assert np.array_equal(read_back(unpacked), read_back(packed))


def test_near_lossless_jpeg_ls_equals_dcmtk(tmp_path: Path) -> None:
    """Near-lossless JPEG-LS decodes to what DCMTK decodes."""
    plain, packed, unpacked = (tmp_path / name for name in ("plain.dcm", "packed.dcm", "unpacked.dcm"))
    written(described(12), plain)
    subprocess.run(["/usr/bin/dcmcjpls", "+en", "+md", "3", plain, packed], check=True)
    subprocess.run(["/usr/bin/dcmdjpls", packed, unpacked], check=True)

    assert dcmread(packed).file_meta.TransferSyntaxUID == uid.JPEGLSNearLossless
    assert np.array_equal(read_back(unpacked), read_back(packed))


def test_lossy_jpeg_2000_is_near(tmp_path: Path) -> None:
    """Lossy JPEG 2000 stays within what its compression ratio gives away."""
    dataset = described(12)
    dataset.compress(uid.JPEG2000, j2k_cr=[2], generate_instance_uid=False)

    error = read_back(written(dataset, tmp_path / "image.dcm")).astype(np.int64) - expected(12)
    assert np.abs(error).max() <= 16


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K])
def test_high_throughput_jpeg_2000(tmp_path: Path, syntax: uid.UID) -> None:
    """HTJ2K of another encoder comes back pixel by pixel."""
    dataset = described(16, pixels=high_throughput_pixels())
    dataset.PixelData = encapsulate([HIGH_THROUGHPUT])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax

    assert np.array_equal(high_throughput_pixels(), read_back(written(dataset, tmp_path / "image.dcm")))


def test_rubbish_above_the_stored_bits_is_cleared(tmp_path: Path) -> None:
    """Overlays and rubbish in the unused high bits do not reach the image (PS3.5 8.1.1)."""
    dataset = described(12, pixels=stored(12) | np.uint16(0xA000))
    native = read_back(written(dataset, tmp_path / "native.dcm"))
    dataset.compress(uid.RLELossless, generate_instance_uid=False)
    rle = read_back(written(dataset, tmp_path / "rle.dcm"))

    assert np.array_equal(expected(12), native)
    assert np.array_equal(expected(12), rle)


def test_high_bit_of_the_old_standard(tmp_path: Path) -> None:
    """Twelve bits stored at the top of the word come down."""
    dataset = described(12, pixels=(stored(12) << 4).astype(np.uint16))
    dataset.HighBit = 15

    assert np.array_equal(expected(12), read_back(written(dataset, tmp_path / "image.dcm")))


def test_frame_in_many_fragments(tmp_path: Path) -> None:
    """One frame may be cut into several fragments (PS3.5 A.4)."""
    dataset = described(12)
    dataset.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    whole = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([whole], fragments_per_frame=5)

    assert np.array_equal(expected(12), read_back(written(dataset, tmp_path / "image.dcm")))


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.JPEGLosslessSV1],
)
def test_cut_off_pixel_data_is_refused(tmp_path: Path, syntax: uid.UID) -> None:
    """Half of the pixel data is no image, in no syntax."""
    plain, packed = written(described(12), tmp_path / "plain.dcm"), tmp_path / "packed.dcm"
    if syntax == uid.JPEGLosslessSV1:
        subprocess.run(["/usr/bin/dcmcjpeg", "+e1", plain, packed], check=True)
        dataset = dcmread(packed)
    else:
        dataset = dcmread(plain)
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
    if syntax.is_encapsulated:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        dataset.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    else:
        dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]

    with pytest.raises(UnreadableImageError, match="cut off"):
        decode(dataset, pixel_layout(dataset))


def test_damaged_bit_stream_is_refused() -> None:
    """A bit stream of nonsense with a proper end is an error, not an image."""
    dataset = described(12)
    dataset.compress(uid.JPEG2000Lossless, generate_instance_uid=False)
    dataset.PixelData = encapsulate([b"\xff\x4f" + bytes(200) + b"\xff\xd9"])

    with pytest.raises(UnreadableImageError, match="cannot be decoded as JPEG 2000"):
        decode(dataset, pixel_layout(dataset))


def test_unknown_transfer_syntax_is_refused() -> None:
    """A video is named and refused."""
    dataset = described(12)
    dataset.file_meta.TransferSyntaxUID = uid.MPEG2MPML

    with pytest.raises(UnreadableImageError, match=uid.MPEG2MPML):
        decode(dataset, pixel_layout(dataset))


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "not monochrome"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not monochrome"),
        ({"NumberOfFrames": 2}, "several frames"),
        ({"PixelData": None}, "no pixel data"),
        ({"PixelData": b""}, "no pixel data"),
        ({"Rows": 0}, "not the size"),
        ({"Rows": 65535, "Columns": 65535}, "not the size"),
        ({"Columns": None}, "not the size"),
        ({"BitsAllocated": 32}, "32 bits allocated"),
    ],
)
def test_what_is_no_radiograph_is_refused(tags: dict[str, Any], reason: str) -> None:
    """Colour, films, lookup colours, missing and impossible pixels are named."""
    with pytest.raises(UnreadableImageError, match=reason):
        pixel_layout(radiograph_dataset(**tags))


def test_all_promised_syntaxes_have_their_decoder() -> None:
    """What the receiver may accept is what is installed."""
    missing = [
        syntax for syntax, plugin in DECODERS.items() if plugin and plugin not in get_decoder(syntax).available_plugins
    ]

    assert missing == []
    assert len(READABLE_TRANSFER_SYNTAXES) == len(DECODERS) == 16
