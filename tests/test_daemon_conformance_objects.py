"""Every object that we make is what chapter 8 of the printed conformance statement says: modules, attributes, codes."""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom.datadict import dictionary_description
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

import builders
import results
import validity
from cxr_triage.daemon.conformance.templates import TEMPLATES
from cxr_triage.daemon.results.objects import BuiltObject, build_objects
from cxr_triage.daemon.results.profiles import PROFILES, SOP_CLASSES
from cxr_triage.model.findings import ABNORMALITIES, SITES, THIRDS, Zone
from cxr_triage.storage.result_records import ObjectReference, Reason
from printed import Row, chapter, table

COPIED, COMMON = "Patient and study, in all objects", "Common, in all objects"
CODES = ("Findings", "Structures", "Measurements and units", "Reporting", "Prescribed by templates and IODs")
#: What PS3.3 Table 8.8-1 puts into a code sequence; the printed tables of codes say which there are.
CODE = {"CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodeMeaning", "CodingSchemeVersion"}
#: The trees of documents: the printed tables of templates and codes are about them, and what they refer to.
TREES = {"ContentSequence", "CurrentRequestedProcedureEvidenceSequence", "PredecessorDocumentsSequence"}
#: The library's name of a module that it has in one IOD only.
NAMED_OTHERWISE = {"multi-frame-functional-groups": "segmentation-multi-frame-functional-groups"}
Code = tuple[str, str]


def explained(item: Dataset) -> Dataset:
    """Give a lookup table its explanation."""
    item.LUTExplanation = "normal"
    return item


#: Kinds of sources that differ in nothing that the tables of validity are about.
OTHERS: dict[str, dict[str, Any]] = {
    "no character set": {"SpecificCharacterSet": None},
    "CR, rescaled": {**validity.CR, "RescaleIntercept": 0, "RescaleSlope": 1, "RescaleType": "US"},
    "DX, window explained": {"WindowCenter": 2000, "WindowWidth": 1500, "WindowCenterWidthExplanation": "NORMAL"},
    "DX, VOI LUT explained": {"VOILUTSequence": [explained(builders.lookup_table(range(0, 4096, 2), bits=12))]},
    "CR, modality LUT explained": {
        **validity.CR,
        "ModalityLUTSequence": [explained(builders.modality_lookup_table(range(4096), bits=12))],
    },
}


class Found(NamedTuple):
    """An attribute of an object, by the names that are printed; items of sequences are marked."""

    name: str
    tag: str
    empty: bool


@cache
def made() -> dict[str, list[Dataset]]:
    """Make every object of every profile, of every kind of source, by the name of its SOP class."""
    objects: dict[str, list[Dataset]] = {}
    for profile in PROFILES:
        for source in (*validity.SOURCES.values(), *OTHERS.values()):
            header = results.source(**source)
            predecessors = {profile: (earlier(),)} if source == {} else {}
            for each in results.objects(header, profile=profile, predecessors=predecessors):
                objects.setdefault(name_of(each.dataset), []).append(results.written(each.dataset))
        for each in (*located(profile), *rejected(profile)):
            objects.setdefault(name_of(each.dataset), []).append(results.written(each.dataset))
    return objects


def rejected(profile: str) -> list[BuiltObject]:
    """Make the notes that reject what a profile makes, for every reason."""
    header = results.source()
    built = results.objects(header, profile=profile)
    return [results.note(header, built, profile=profile, reason=reason) for reason in Reason]


def located(profile: str) -> list[BuiltObject]:
    """Make the objects of findings that lie wherever one can."""
    header = results.source()
    zones = [Zone(site, third) for site in SITES for third in ("", *THIRDS)]
    labels = [each.name for each in ABNORMALITIES]
    found = [replace(builders.finding(labels[at % len(labels)]), zone=zone) for at, zone in enumerate(zones)]
    region = {labels[0]: builders.thorax_masks(header.Rows, header.Columns)[0]}
    built = []
    for findings in (found[: len(labels)], found[len(labels) :]):
        stored = results.stored(header, findings=tuple(findings), regions=region)
        built += build_objects(results.revision(), [stored], results.sources(header), PROFILES[profile])
    return built


def earlier() -> ObjectReference:
    """Give the SR of the revision before."""
    return ObjectReference(
        sop_class_uid=SOP_CLASSES[PROFILES["air"].report],
        sop_instance_uid="1.2.3.77",
        series_instance_uid="1.2.3.7",
        study_instance_uid=results.STUDY,
    )


def name_of(dataset: Dataset) -> str:
    """Give the name of an object's SOP class."""
    return UID(dataset.SOPClassUID).name


NAMES = [uid.name for uid in SOP_CLASSES.values()]


def stated(name: str) -> list[Row]:
    """Give the printed rows of an object, and those that all have."""
    return [*table(COMMON, "module"), *table(name, "module")]


@cache
def copied() -> frozenset[str]:
    """Give the printed names of what is copied of patient and study."""
    text = chapter(COPIED).replace("\n", " ")
    lists = re.findall(r"- (?:VNAP|ANAP, of patient|ANAP, of study): (.+?)\.(?= - |$| )", text)
    assert len(lists) == 3
    return frozenset(name.strip() for listed in lists for name in listed.split(", "))


def attributes(dataset: Dataset, depth: str = "") -> Iterator[Found]:
    """Walk through an object as far as the tables go."""
    for element in dataset:
        name = dictionary_description(element.tag)
        if element.keyword in CODE or (not depth and name in copied()):
            continue
        yield Found(depth + name, tag_of(element.tag), element.is_empty)
        if element.VR == "SQ" and element.keyword not in TREES:
            for item in element.value:
                yield from attributes(item, f"{depth}>")


def tag_of(tag: BaseTag) -> str:
    """Write a tag as it is printed."""
    return f"({tag.group:04X},{tag.element:04X})"


@pytest.mark.parametrize("name", NAMES)
def test_attributes_are_those_that_are_stated(name: str) -> None:
    """All of them, and none besides."""
    rows = {(row["attribute"], row["tag"]) for row in stated(name) if row["tag"]}
    found = {(each.name, each.tag) for dataset in made()[name] for each in attributes(dataset)}
    assert found - rows == set()
    assert rows - found == set()


@pytest.mark.parametrize("name", NAMES)
def test_presence_is_as_stated(name: str) -> None:
    """ALWAYS with a value, VNAP always, EMPTY always without one, and ANAP not always."""
    rows = {row["attribute"]: row["presence"] for row in stated(name) if row["tag"] and row["attribute"][0] != ">"}
    for attribute, presence in rows.items():
        kinds = {kind_of(attribute, dataset) for dataset in made()[name]}
        assert (attribute, kinds) in [(attribute, allowed) for allowed in PRESENCE[presence]]


#: In how many ways an attribute of each presence may be there, over all objects.
PRESENCE = {
    "ALWAYS": [{"value"}],
    "VNAP": [{"value", "empty"}],
    "EMPTY": [{"empty"}],
    "ANAP": [{"value", "absent"}, {"empty", "absent"}, {"value", "empty", "absent"}],
}


def kind_of(attribute: str, dataset: Dataset) -> str:
    """Say how an attribute is there."""
    found = [each for each in attributes(dataset) if each.name == attribute]
    if not found:
        return "absent"
    return "empty" if found[0].empty else "value"


@pytest.mark.parametrize("name", NAMES)
def test_modules_are_those_of_the_iod(name: str) -> None:
    """Each with the usage that PS3.3 gives it, and every mandatory one is there."""
    iod = get_iod_module_map()[get_sop_class_iod_map()[UID(made()[name][0].SOPClassUID)]]
    usages = {module["key"]: module["usage"] for module in iod}
    printed = {key_of(row["module"]): row["usage"] for row in stated(name)} | of_the_study()
    assert {key: usages.get(key) for key in printed} == printed
    assert {key for key, usage in usages.items() if usage == "M"} - printed.keys() == set()


@pytest.mark.parametrize("name", NAMES)
def test_attributes_stand_in_their_modules(name: str) -> None:
    """As highdicom's copy of PS3.3 has them."""
    modules = get_module_attribute_map()
    for row in stated(name):
        if row["tag"] and row["attribute"][0] != ">":
            known = {attribute["keyword"] for attribute in modules[key_of(row["module"])] if not attribute["path"]}
            assert row["attribute"] in {dictionary_description(keyword) for keyword in known}, row["module"]


def key_of(module: str) -> str:
    """Give the library's name of a module."""
    key = module.split(" (", maxsplit=1)[0].lower().replace(" ", "-")
    return NAMED_OTHERWISE.get(key, key)


def of_the_study() -> dict[str, str]:
    """Give the modules that are copied, with their usage, as they are printed."""
    named = re.findall(r"([A-Z][A-Za-z ]+)\s\(C[\d.]+,\s([MUC])\)", chapter(COPIED).replace("\n", " "))
    return {key_of(module.removeprefix("and ")): usage for module, usage in named}


def codes_in(dataset: Dataset) -> Iterator[Code]:
    """Give every code of an object, but for those that are copied from the image."""
    for element in dataset:
        if element.VR != "SQ" or dictionary_description(element.tag) in copied():
            continue
        for item in element.value:
            if value := item.get("CodeValue", item.get("LongCodeValue")):
                yield item.CodingSchemeDesignator, value
            yield from codes_in(item)


def test_codes_are_those_that_are_stated() -> None:
    """Every code of every object is printed, and every printed code but for other labels stands in some object."""
    printed = {(row["scheme"], row["code value"]) for title in CODES for row in table(title, "code value")}
    found = {code for datasets in made().values() for dataset in datasets for code in codes_in(dataset)}
    assert found - printed == set()
    labels = {(row["scheme"], row["code value"]) for row in table("Findings", "code value")}
    assert printed - found - labels == set()


def test_coding_schemes_are_those_that_are_stated() -> None:
    """The private one has the UID that objects give it."""
    printed = {row["designator"]: row["UID"] for row in table("Coding schemes", "designator")}
    found = {scheme for datasets in made().values() for dataset in datasets for scheme, _ in codes_in(dataset)}
    assert found == printed.keys()
    for dataset in made()["Comprehensive 3D SR Storage"]:
        (scheme,) = dataset.CodingSchemeIdentificationSequence
        assert printed[scheme.CodingSchemeDesignator] == scheme.CodingSchemeUID


def test_templates_are_those_that_are_stated() -> None:
    """Every template that a container names is printed; those that none names are not said to be."""
    printed = {row["TID"] for row in table("Content trees", "TID")}
    found = {tid for datasets in made().values() for dataset in datasets for tid in templates_in(dataset)}
    assert found <= printed
    assert found == {each.tid for each in TEMPLATES if each.declared}


def templates_in(dataset: Dataset) -> Iterator[str]:
    """Give the templates that containers name."""
    for item in dataset.get("ContentTemplateSequence", ()):
        yield item.TemplateIdentifier
    for item in dataset.get("ContentSequence", ()):
        yield from templates_in(item)


def test_no_attribute_is_private() -> None:
    """The data dictionary of private attributes is empty."""
    assert chapter("8.2 Data dictionary of private attributes").strip() == "None."
    for datasets in made().values():
        for dataset in datasets:
            dataset.walk(lambda _dataset, element: _refuse_private(element.tag))


def _refuse_private(tag: BaseTag) -> None:
    assert not tag.is_private
