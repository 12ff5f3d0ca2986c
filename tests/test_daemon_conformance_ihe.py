"""What the printed IHE integration statement claims of an emission profile is in the objects that the profile makes."""

from collections.abc import Iterator
from functools import cache

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

import results
from cxr_triage.daemon.results.objects import BuiltObject
from cxr_triage.daemon.results.profiles import PROFILES
from cxr_triage.storage.result_records import ObjectKind
from printed import DOCS, chapter, table

PAGE = DOCS / "ihe-integration-statement.md"
#: Concept names by which a primitive is recognised in the tree of a report.
FINDING, PROBABILITY, SEGMENT, TRACKING = "121071", "122157", "121214", "112039"
REGION = "111030"


@cache
def made(profile: str) -> list[BuiltObject]:
    """Make what a profile makes of a study with a finding."""
    return results.objects(results.source(), profile=profile)


def names(item: Dataset) -> Iterator[str]:
    """Give the concept names of a content tree."""
    for concept in item.get("ConceptNameCodeSequence", ()):
        yield concept.get("CodeValue", "")
    for child in item.get("ContentSequence", ()):
        yield from names(child)


def report_of(profile: str) -> Dataset:
    """Give the report that a profile makes."""
    return results.of_kind(made(profile), ObjectKind.SR)


def has(profile: str, primitive: str) -> bool:
    """Whether the objects of a profile have a primitive, in AIR's encoding."""
    kinds = {each.kind for each in made(profile)}
    report = report_of(profile)
    told = set(names(report)) if report.SOPClassUID == Comprehensive3DSRStorage else set()
    return {
        "Qualitative finding": FINDING in told,
        "Measurement": PROBABILITY in told,
        "Location": False,
        "Region": ObjectKind.SEG in kinds and bool({SEGMENT, REGION} & told),
        "Parametric map": False,
        "Tracking identifier": TRACKING in told,
        "Image reference": ObjectKind.KO in kinds,
    }[primitive]


@pytest.mark.parametrize("row", table("Primitives", "primitive", PAGE), ids=lambda row: row["primitive"])
def test_a_primitive_is_made_where_it_is_claimed(row: dict[str, str]) -> None:
    """And nowhere else."""
    claimed = set() if row["emission profiles"] == "none" else set(row["emission profiles"].split(", "))
    assert {f"`{profile}`" for profile in PROFILES if has(profile, row["primitive"])} == claimed


def test_profiles_are_by_air_as_claimed() -> None:
    """Those with a Comprehensive 3D SR by TID 1500."""
    for row in table("AI Results", "by AIR", PAGE):
        report = report_of(row["emission profile"].strip("`"))
        by_air = report.SOPClassUID == Comprehensive3DSRStorage
        assert by_air == (row["by AIR"] == "yes")
        if by_air:
            assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def test_transactions_store_what_is_claimed() -> None:
    """Each kind of object goes by one of them."""
    rows = table("Transactions", "objects", PAGE)
    stored = {kind: set(row["emission profiles"].split(", ")) for row in rows for kind in row["objects"].split(", ")}
    assert stored.keys() == {kind.value for kind in ObjectKind}
    for kind, profiles in stored.items():
        assert {f"`{profile}`" for profile in PROFILES if any(each.kind == kind for each in made(profile))} <= profiles


def test_the_algorithm_contributed() -> None:
    """Every object names it as the device that observes in the reports."""
    assert "Contributing Equipment Sequence (0018,A001)" in chapter("Exceptions and limits", PAGE)
    for profile in PROFILES:
        devices = {each.dataset.ContributingEquipmentSequence[0].DeviceUID for each in made(profile)}
        assert len(devices) == 1
        assert devices.pop() in str(report_of(profile))
