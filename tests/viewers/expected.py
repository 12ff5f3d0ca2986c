"""What of an SR a viewer must have on its page, read from the SR itself."""

from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal

from pydicom import Dataset


def values(sr: Dataset, concept: str) -> list[str]:
    """Give every number of one concept, by the meaning of its code, to two places as viewers write it; sorted."""
    return sorted(_two_places(item) for item in _items(sr) if _is(item, concept))


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
