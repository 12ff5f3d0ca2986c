"""What of an SR a viewer must have on its page, read from the SR itself."""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from pydicom import Dataset

from cxr_triage.daemon.results.codes import PROBABILITY
from journal import references


def numbers(sr: Dataset, image: str) -> list[str]:
    """Give every number about one image as viewers write it: name, value and unit; sorted."""
    return sorted(_line(item) for group in _groups(sr, image) for item in _items(group) if item.ValueType == "NUM")


def probabilities(sr: Dataset, image: str) -> list[str]:
    """Give those that say how probable a finding is."""
    items = [item for group in _groups(sr, image) for item in _items(group) if item.ValueType == "NUM"]
    return sorted(_line(item) for item in items if item.ConceptNameCodeSequence[0].CodeValue == PROBABILITY.value)


def _groups(sr: Dataset, image: str) -> list[Dataset]:
    return [item for item in _items(sr) if _is_group(item) and image in references(item)]


def _is_group(item: Dataset) -> bool:
    """Whether it is a Measurement Group (PS3.16 TID 1410 and 1501)."""
    return bool(item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "125007")


def _items(within: Dataset) -> Iterator[Dataset]:
    for item in within.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _line(item: Dataset) -> str:
    name, measured = item.ConceptNameCodeSequence[0].CodeMeaning, item.MeasuredValueSequence[0]
    return f"{name}: {_two_places(item)} {measured.MeasurementUnitsCodeSequence[0].CodeValue}"


def _two_places(item: Dataset) -> str:
    """As Number.toFixed does: from the binary value, a half upwards (ECMA-262)."""
    value = Decimal(float(item.MeasuredValueSequence[0].NumericValue))
    return str(value.quantize(Decimal("0.01"), ROUND_HALF_UP))
