"""What of an SR a viewer must have on its page, read from the SR itself."""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from pydicom import Dataset

from journal import references


def values(sr: Dataset, image: str, concept: str) -> list[str]:
    """Give every number of one concept, by its code's meaning, about one image, as viewers write it; sorted."""
    groups = [item for item in _items(sr) if _is_group(item) and image in references(item)]
    return sorted(_two_places(item) for group in groups for item in _items(group) if _is(item, concept))


def _is_group(item: Dataset) -> bool:
    """Whether it is a Measurement Group (PS3.16 TID 1410 and 1501)."""
    return bool(item.ValueType == "CONTAINER" and item.ConceptNameCodeSequence[0].CodeValue == "125007")


def _items(within: Dataset) -> Iterator[Dataset]:
    for item in within.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _is(item: Dataset, concept: str) -> bool:
    return bool(item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeMeaning == concept)


def _two_places(item: Dataset) -> str:
    """As Number.toFixed does: from the binary value, a half upwards (ECMA-262)."""
    value = Decimal(float(item.MeasuredValueSequence[0].NumericValue))
    return str(value.quantize(Decimal("0.01"), ROUND_HALF_UP))
