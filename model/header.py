"""Reading DICOM headers as they really come: wrong VRs, empty values, foreign character sets, hostile sizes."""

import logging
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_triage.model.errors import UnreadableImageError

#: A radiograph of 100 megapixels at 16 bit is 200 MB; what is larger than this is not one.
MAX_FILE_BYTES: Final = 512 * 2**20
#: PN, the longest VR read here, has 3 x 64 characters (PS3.5 Table 6.2-1); DS and ST stay below too.
MAX_TEXT_CHARACTERS: Final = 1024
#: Preamble and prefix (PS3.10 7.1), and the File Meta Information's own group length element.
PREAMBLE_BYTES: Final = 132
GROUP_LENGTH_ELEMENT_BYTES: Final = 12

_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Silence pydicom's warnings while values are read: they quote the values, which are patient data."""
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


def open_dataset(path: Path, *, only: Sequence[str] | None = None) -> Dataset:
    """Parse a DICOM Part 10 file.

    Args:
        path: the file.
        only: keywords to keep; pixel data and everything else is then skipped without being read into memory.

    Raises:
        UnreadableImageError: it is not DICOM, it cannot be parsed, or it is larger than any radiograph.
        OSError: the file could not be read; trying again may help.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise UnreadableImageError(f"The file is larger than {MAX_FILE_BYTES} bytes: this is not a single radiograph.")
    try:
        return _parse(path, only)
    except (OSError, MemoryError, UnreadableImageError):
        raise
    except Exception as error:  # noqa: BLE001 - a parser at the mercy of its input: whatever fails says "not DICOM"
        raise UnreadableImageError(
            f"The file cannot be parsed as DICOM ({type(error).__name__}): send the image again from its source."
        ) from None  # pydicom's message may quote values


def _parse(path: Path, only: Sequence[str] | None) -> Dataset:
    source: str | BytesIO = str(path)
    if _transfer_syntax(path) == DeflatedExplicitVRLittleEndian:
        source = BytesIO(_inflated(path))
    tags = None if only is None else [Tag(keyword) for keyword in only]
    return dcmread(source, stop_before_pixels=only is not None, specific_tags=tags)


def _transfer_syntax(path: Path) -> str:
    return str(read_file_meta_info(path).get("TransferSyntaxUID", ""))


def _inflated(path: Path) -> bytes:
    """The same file with its data set inflated (PS3.5 A.5), never beyond MAX_FILE_BYTES."""
    content = path.read_bytes()
    meta = read_file_meta_info(path)
    start = PREAMBLE_BYTES + GROUP_LENGTH_ELEMENT_BYTES + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    dataset = inflater.decompress(content[start:], MAX_FILE_BYTES)
    if inflater.unconsumed_tail:
        raise UnreadableImageError(f"The deflated data set inflates beyond {MAX_FILE_BYTES} bytes: it is not read.")
    return _as_explicit_little_endian(content[:start]) + dataset


def _as_explicit_little_endian(meta: bytes) -> bytes:
    """The same bytes of file meta information, naming Explicit VR Little Endian; lengths stay as they are."""
    deflated = DeflatedExplicitVRLittleEndian.encode("ascii")
    explicit = deflated.removesuffix(b".99")
    return meta.replace(deflated, explicit.ljust(len(deflated), b"\0"))


def value(dataset: Dataset, keyword: str) -> Any:
    """The value of an element, or None where it is absent, empty or does not fit its VR."""
    try:
        found = dataset.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom converts on access, and each VR fails in its own way: odd is unknown
        return None
    return None if isinstance(found, str | bytes | MultiValue) and len(found) == 0 else found


def text(dataset: Dataset, keyword: str) -> str:
    """The decoded text of an element, values joined by a backslash; empty where there is none."""
    found = value(dataset, keyword)
    if found is None or isinstance(found, DicomSequence):
        return ""
    parts = found if isinstance(found, MultiValue | list | tuple) else [found]
    return "\\".join(_clean(part) for part in parts)[:MAX_TEXT_CHARACTERS]


def _clean(part: Any) -> str:
    raw = part.decode("ascii", "replace") if isinstance(part, bytes) else str(part)
    # Neither control characters nor lone surrogates can be stored as text in every database.
    return _CONTROL_CHARACTERS.sub("", raw).encode("utf-8", "replace").decode("utf-8").strip()


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The numbers of an element; empty where there is none or any of them is not a finite number."""
    try:
        found = tuple(float(part) for part in text(dataset, keyword).split("\\"))
    except ValueError:
        return ()
    return found if all(abs(number) < float("inf") for number in found) else ()


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first number of an element; None where there is none."""
    return next(iter(numbers(dataset, keyword)), None)


def sides(dataset: Dataset, keyword: str) -> tuple[float, float] | None:
    """Height and width of a pixel, as one element gives them; None where it does not."""
    found = numbers(dataset, keyword)
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else None


def shown_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing in mm by which a viewer shows an image; None where it has none."""
    return sides(dataset, "PixelSpacing") or sides(dataset, "ImagerPixelSpacing")


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; empty where there is none."""
    found = value(dataset, keyword)
    return list(found) if isinstance(found, DicomSequence) else []
