"""Stored pixels out of a data set: which transfer syntaxes can be decoded, and by which library.

One decoder per syntax, chosen by measuring: each gives the encoder's own pixels back in tests/test_model_codecs.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder

from cxr_triage.model.errors import UnreadableImageError
from cxr_triage.model.header import number, text

#: Decoding plugin of pydicom per transfer syntax; empty = pixels are stored as they are.
DECODERS: Final[dict[uid.UID, str]] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.JPEGBaseline8Bit: "gdcm",
    uid.JPEGExtended12Bit: "gdcm",
    uid.JPEGLossless: "gdcm",
    uid.JPEGLosslessSV1: "gdcm",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pylibjpeg",
}

#: What the receiver may accept: every transfer syntax that ends as pixels here.
READABLE_TRANSFER_SYNTAXES: Final[tuple[str, ...]] = tuple(str(syntax) for syntax in DECODERS)

#: Larger than any detector (17 x 17 inch at 0.05 mm is 75 megapixels): a header that asks for more is not believed.
MAX_PIXELS: Final = 100_000_000
#: End of image (ISO/IEC 10918-1 B.1.1.3; also JPEG-LS), and end of codestream (ISO/IEC 15444-1 A.4.4): the same bytes.
END_MARKER: Final = b"\xff\xd9"

StoredPixels = NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelLayout:
    """How the pixels of one image are stored (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    #: 8 or 16.
    bits_allocated: int
    #: 1 to bits_allocated.
    bits_stored: int
    #: Bit number of the most significant bit.
    high_bit: int
    signed: bool
    photometric_interpretation: str

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value that the stored bits can hold."""
        full = 2.0**self.bits_stored
        return (-full / 2, full / 2 - 1) if self.signed else (0.0, full - 1)


def pixel_layout(dataset: Dataset) -> PixelLayout:
    """How the pixels of `dataset` are stored.

    Raises:
        UnreadableImageError: they are not one monochrome frame of 8 or 16 bits allocated.
    """
    _require_one_monochrome_frame(dataset)
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    if not 0 < rows * columns <= MAX_PIXELS or rows < 0:
        raise UnreadableImageError(f"{rows} rows by {columns} columns is not the size of a radiograph.")
    allocated = _whole(dataset, "BitsAllocated")
    if allocated not in (8, 16):
        raise UnreadableImageError(f"{allocated} bits allocated: only 8 and 16 are read (PS3.3 C.8.11.3).")
    stored = _whole(dataset, "BitsStored")
    stored = stored if 0 < stored <= allocated else allocated
    high_bit = _whole(dataset, "HighBit")
    return PixelLayout(
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit if stored - 1 <= high_bit < allocated else stored - 1,
        signed=number(dataset, "PixelRepresentation") == 1,
        photometric_interpretation=text(dataset, "PhotometricInterpretation"),
    )


def _require_one_monochrome_frame(dataset: Dataset) -> None:
    photometric = text(dataset, "PhotometricInterpretation")
    if number(dataset, "SamplesPerPixel") not in (None, 1) or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnreadableImageError("The image is not monochrome: a radiograph is MONOCHROME1 or MONOCHROME2.")
    if (number(dataset, "NumberOfFrames") or 1) > 1:
        raise UnreadableImageError("The image has several frames: only single radiographs are read.")
    if not isinstance(dataset.get("PixelData"), bytes) or not dataset.PixelData:
        raise UnreadableImageError("The file has no pixel data, or was cut off before it: send the image again.")


def _whole(dataset: Dataset, keyword: str) -> int:
    return int(number(dataset, keyword) or 0)


def decode(dataset: Dataset, layout: PixelLayout) -> StoredPixels:
    """The stored pixels of `dataset`, (Rows, Columns); bits that are not stored are cleared, the sign is right.

    Raises:
        UnreadableImageError: the transfer syntax is not read, or the pixel data is cut off or damaged.
    """
    syntax = uid.UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if syntax not in DECODERS:
        raise UnreadableImageError(f"Transfer syntax {syntax} is not read: send the image uncompressed.")
    decoder = _decoder(syntax, layout)
    try:
        return decoder(dataset, layout)
    except (MemoryError, UnreadableImageError):
        raise
    except Exception as error:  # codecs raise their own kinds; whichever it is, these bytes do not decode
        raise UnreadableImageError(
            f"The pixel data cannot be decoded as {syntax.name} ({type(error).__name__}): it is cut off or damaged; "
            "send the image again."
        ) from error


def _decoder(syntax: uid.UID, layout: PixelLayout) -> Callable[[Dataset, PixelLayout], StoredPixels]:
    if not DECODERS[syntax]:
        return _decode_native
    if syntax == uid.JPEGExtended12Bit and layout.bits_stored > 8:
        return _decode_jpeg_extended
    return _decode_encapsulated


def _decode_native(dataset: Dataset, layout: PixelLayout) -> StoredPixels:
    pixels = _as_array(dataset, layout, correct_unused_bits=False)
    return _only_stored_bits(pixels, layout)


def _decode_encapsulated(dataset: Dataset, layout: PixelLayout) -> StoredPixels:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == uid.RLELossless:  # PS3.5 Annex G: bytes as they would be stored natively
        return _only_stored_bits(_as_array(dataset, layout, correct_unused_bits=False), layout)
    _require_end_marker(_frame(dataset))
    return _as_array(dataset, layout)


def _as_array(dataset: Dataset, layout: PixelLayout, **options: Any) -> StoredPixels:
    syntax = dataset.file_meta.TransferSyntaxUID
    described: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": layout.photometric_interpretation,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": dataset["PixelData"].VR,
    }
    pixels: StoredPixels
    pixels, _ = get_decoder(syntax).as_array(
        dataset.PixelData, index=0, raw=True, decoding_plugin=DECODERS[syntax], **described, **options
    )
    return pixels


def _only_stored_bits(pixels: StoredPixels, layout: PixelLayout) -> StoredPixels:
    """Shift the stored bits to the top and back: overlays and rubbish above go, the sign comes (PS3.5 8.1.1)."""
    above = layout.bits_allocated - 1 - layout.high_bit
    return (pixels << above) >> (layout.bits_allocated - layout.bits_stored)


def _frame(dataset: Dataset) -> bytes:
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


def _require_end_marker(frame: bytes) -> None:
    # gdcm fills what is missing of a JPEG with grey and says nothing.
    # Writers pad to even length with zeros, and some with ones.
    if not frame.rstrip(b"\0\xff").endswith(END_MARKER):
        raise UnreadableImageError("The compressed pixel data is cut off before its end: send the image again.")


def _decode_jpeg_extended(dataset: Dataset, layout: PixelLayout) -> StoredPixels:
    """12-bit JPEG Extended through gdcm itself.

    pydicom's plugin refuses it on account of older gdcm; from 3.2 on its pixels equal those of DCMTK's dcmdjpeg.
    """
    import gdcm  # noqa: PLC0415 - a large library that few images need

    frame = _frame(dataset)
    _require_end_marker(frame)
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((layout.columns, layout.rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType(layout.photometric_interpretation))
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, layout.bits_stored, layout.bits_stored - 1, int(layout.signed)))
    # gdcm hands char* over as str.
    pixels = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), "<i2" if layout.signed else "<u2")
    return pixels.reshape(layout.rows, layout.columns)
