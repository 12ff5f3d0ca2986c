"""Stored pixels -> what the default display shows, [0, 1], bright = dense. The order of the steps is the standard's.

Modality LUT or rescale -> VOI LUT or window -> inversion, once (PS3.4 N.2, PS3.3 C.8.11.3.1.2).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import DigitalXRayImageStorageForProcessing

from cxr_triage.model.codecs import PixelLayout, StoredPixels
from cxr_triage.model.errors import UnreadableImageError
from cxr_triage.model.header import items, number, numbers, text

Values = NDArray[np.float32]

#: Share of the stored bits' range that an image without VOI must use to be taken as P-Values.
MIN_USED_RANGE: Final = 0.5
#: Percentiles that bound an image which comes without a usable display range.
ROBUST_PERCENTILES: Final = (0.5, 99.5)
#: Pixels looked at for the percentiles; more change nothing.
PERCENTILE_SAMPLE: Final = 250_000


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stage:
    """Pixel values between two steps, and the range that they may take."""

    values: Values
    low: float
    high: float


def displayed(stored: StoredPixels, layout: PixelLayout, dataset: Dataset) -> Values:
    """What the default display shows of the stored pixels.

    Returns:
        float32, (Rows, Columns), [0, 1], bright = dense.

    Raises:
        UnreadableImageError: a LUT cannot be read, or an image for processing does not say what its pixels mean.
    """
    if is_for_processing(dataset):
        return _normalised_exposure(stored, layout, dataset)
    stage = _modality(stored, layout, dataset)
    shown = _voi(stage, _background(stored, dataset), dataset)
    return np.subtract(1, shown, dtype=np.float32) if is_shown_inverted(dataset) else shown


def leaves_window_open(dataset: Dataset) -> bool:
    """Whether a header for presentation has neither VOI LUT nor usable window."""
    return not is_for_processing(dataset) and not items(dataset, "VOILUTSequence") and _window(dataset) is None


def window_left_open(stored: StoredPixels, layout: PixelLayout, dataset: Dataset) -> "Window":
    """The window that `displayed` takes where the header leaves it open.

    Raises:
        UnreadableImageError: a LUT cannot be read.
    """
    low, high = _range_without_voi(_modality(stored, layout, dataset), _background(stored, dataset))
    return Window(center=(low + high + 1) / 2, width=high - low + 1, function="LINEAR")


def is_for_processing(dataset: Dataset) -> bool:
    """Whether the pixels are raw detector data that no display should show as they are."""
    intent = text(dataset, "PresentationIntentType").upper()
    return intent == "FOR PROCESSING" or (
        not intent and text(dataset, "SOPClassUID") == DigitalXRayImageStorageForProcessing
    )


def is_shown_inverted(dataset: Dataset) -> bool:
    """Whether low values are shown bright.

    MONOCHROME1 and INVERSE say the same thing twice (PS3.3 C.8.11.3): either is enough, both invert once.
    """
    monochrome1 = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    return monochrome1 or text(dataset, "PresentationLUTShape") == "INVERSE"


def _modality(stored: StoredPixels, layout: PixelLayout, dataset: Dataset) -> _Stage:
    """Modality LUT, else rescale (PS3.3 C.11.1: an image has one of them)."""
    luts = items(dataset, "ModalityLUTSequence")
    if luts:
        table = lookup_table(luts[0], dataset)
        return _Stage(values=table.apply(stored), low=0, high=table.top)
    slope = number(dataset, "RescaleSlope") or 1.0
    intercept = number(dataset, "RescaleIntercept") or 0.0
    low, high = sorted(slope * end + intercept for end in layout.value_range)
    return _Stage(values=stored.astype(np.float32) * np.float32(slope) + np.float32(intercept), low=low, high=high)


def _voi(stage: _Stage, background: NDArray[np.bool_] | None, dataset: Dataset) -> Values:
    """VOI LUT, else window, else the whole range.

    Where an image carries both, either may be shown (PS3.3 C.11.2.1.2: alternative views); the LUT comes first, since
    it is the curve that the vendor made for this image and the window its straight stand-in.
    """
    luts = items(dataset, "VOILUTSequence")
    if luts:
        table = lookup_table(luts[0], dataset)
        return table.apply(stage.values) / np.float32(table.top)
    window = _window(dataset)
    if window is not None:
        return window.apply(stage.values)
    return _without_voi(stage, background)


def _without_voi(stage: _Stage, background: NDArray[np.bool_] | None) -> Values:
    """Without a VOI the values are P-Values over the range of the stored bits (PS3.3 C.8.11.3).

    Many CR images say nothing of their range and use a small part of it, so that a display would show grey on grey:
    those are stretched between robust percentiles.
    """
    return _stretched(stage.values, *_range_without_voi(stage, background))


def _range_without_voi(stage: _Stage, background: NDArray[np.bool_] | None) -> tuple[float, float]:
    low, high = _robust_range(stage.values, background)
    wide = high - low >= MIN_USED_RANGE * (stage.high - stage.low)
    return (stage.low, stage.high) if wide else (low, high)


def _normalised_exposure(stored: StoredPixels, layout: PixelLayout, dataset: Dataset) -> Values:
    """Detector values as density: logarithm where they are exposure, then a robust range, dense = bright.

    Pixel Intensity Relationship and its Sign (PS3.3 C.8.11.3.1.2) say what the pixels mean; without them nothing is
    guessed.
    """
    relationship = text(dataset, "PixelIntensityRelationship").upper()
    if relationship not in ("LIN", "LOG"):
        raise UnreadableImageError(
            "An image for processing without Pixel Intensity Relationship LIN or LOG: "
            "send the image for presentation instead."
        )
    values = stored.astype(np.float32) - np.float32(layout.value_range[0])
    if relationship == "LIN":
        values = np.log1p(values)  # absorption multiplies: equal tissue is an equal step only in the logarithm
    shown = _stretched(values, *_robust_range(values, _background(stored, dataset)))
    sign = number(dataset, "PixelIntensityRelationshipSign")
    dense_is_low = sign == 1 if sign in (1, -1) else layout.photometric_interpretation == "MONOCHROME1"
    return np.subtract(1, shown, dtype=np.float32) if dense_is_low else shown


def _background(stored: StoredPixels, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where Pixel Padding Value says that there is no image (PS3.3 C.7.5.1.1.2); None where it says nothing."""
    padding = number(dataset, "PixelPaddingValue")
    if padding is None:
        return None
    limit = number(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((padding, padding if limit is None else limit))
    return (stored >= low) & (stored <= high)


def _robust_range(values: Values, background: NDArray[np.bool_] | None) -> tuple[float, float]:
    image = values if background is None or background.all() else values[~background]
    sample = image.ravel()[:: max(1, image.size // PERCENTILE_SAMPLE)]
    low, high = np.percentile(sample, ROBUST_PERCENTILES)
    return float(low), float(high)


def _stretched(values: Values, low: float, high: float) -> Values:
    if high <= low:  # one value everywhere: there is nothing to show
        return np.zeros_like(values)
    scaled: Values = (values - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Window Center, Width and VOI LUT Function (PS3.3 C.11.2.1.2, C.11.2.1.3)."""

    center: float
    width: float
    function: str

    def apply(self, values: Values) -> Values:
        """The values inside the window, [0, 1]."""
        if self.function == "SIGMOID":
            exponent = np.clip(-4 * (values - np.float32(self.center)) / np.float32(self.width), -80, 80)
            curve: Values = np.reciprocal(1 + np.exp(exponent), dtype=np.float32)
            return curve
        if self.function == "LINEAR_EXACT":
            return _stretched(values, self.center - self.width / 2, self.center + self.width / 2)
        if self.width == 1:  # C.11.2.1.2.1: a threshold
            return (values > self.center - 0.5).astype(np.float32)
        reach = (self.width - 1) / 2
        return _stretched(values, self.center - 0.5 - reach, self.center - 0.5 + reach)


def _window(dataset: Dataset) -> Window | None:
    """The first window; None where there is none, or its width is not allowed (C.11.2.1.2.1)."""
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if center is None or width is None or width <= 0 or (width < 1 and function == "LINEAR"):
        return None
    return Window(center=center, width=width, function=function)


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupTable:
    """Modality or VOI LUT (PS3.3 C.11.1.1, C.11.2.1.1)."""

    entries: NDArray[np.uint16]
    #: Input value that the first entry is for; lower ones get it too, those above the table the last one.
    first: int
    #: Largest value of an entry: the scale of the output.
    top: float

    def apply(self, values: NDArray[Any]) -> Values:
        """The entry of each value."""
        first = self.first
        if first >= 2**15 and values.min(initial=0) < 0:  # a negative first value that was written as US
            first -= 2**16
        index = np.clip(np.rint(values).astype(np.int32) - first, 0, len(self.entries) - 1)
        found: Values = self.entries.astype(np.float32)[index]
        return found


def lookup_table(item: Dataset, dataset: Dataset) -> LookupTable:
    """Read an item of a Modality or VOI LUT Sequence of a data set.

    Raises:
        UnreadableImageError: it has no descriptor, or too few entries.
    """
    # pydicom's apply_voi clips the index in the type of the output, which cuts a table of 8-bit entries at 256 of them.
    descriptor = numbers(item, "LUTDescriptor")
    if len(descriptor) != 3:
        raise UnreadableImageError("A lookup table has no LUT Descriptor of three values: send the image again.")
    length = int(descriptor[0]) & 0xFFFF or 2**16  # 0 stands for 65536, which US cannot hold
    entries = _entries(item, length, dataset)
    # The depth of the descriptor is the scale; entries beyond it show that the descriptor is wrong, not the entries.
    depth = max(int(descriptor[2]), int(entries.max(initial=1)).bit_length())
    return LookupTable(entries=entries, first=int(descriptor[1]), top=2.0**depth - 1)


def _entries(item: Dataset, length: int, dataset: Dataset) -> NDArray[np.uint16]:
    """LUT Data as words, or as bytes where there are only as many bytes as entries."""
    little_endian = dataset.original_encoding[1] is not False
    data = item.get("LUTData")
    if not isinstance(data, bytes):
        words = np.atleast_1d(np.asarray(data if data is not None else [], dtype=np.int64)) & 0xFFFF
        data = words.astype("<u2" if little_endian else ">u2").tobytes()
    if len(data) >= 2 * length:
        return np.frombuffer(data, "<u2" if little_endian else ">u2", count=length).astype(np.uint16)
    if len(data) < length:
        raise UnreadableImageError("A lookup table is shorter than its LUT Descriptor says: send the image again.")
    octets = np.frombuffer(data, np.uint8)
    pairs = octets if little_endian else octets.reshape(-1, 2)[:, ::-1].ravel()
    return pairs[:length].astype(np.uint16)
