"""Stand-ins as data and as objects: every chain ends, and every form in it is valid and says what it stands for."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

import results
from cxr_triage.daemon.results.finishing import encode
from cxr_triage.daemon.results.objects import (
    BuiltObject,
    build_image_stand_in,
    build_report_stand_in,
    can_be_of,
    form_of,
)
from cxr_triage.daemon.results.profiles import PROFILES, SOP_CLASSES, Form, ReportForm
from cxr_triage.storage.result_records import PER_IMAGE, ObjectKind, ResultObject
from validity import SOURCES

#: Each form that may have to be made for a destination of a profile.
CHAINS = sorted({(name, form) for name, profile in PROFILES.items() for form in profile.stand_ins.values()})


def stand_in(profile: str, form: Form, header: Dataset) -> BuiltObject:
    """Build one for a study of one image, whose other objects are made already."""
    stored, source = results.stored(header), results.sources(header)[header.SOPInstanceUID]
    if not isinstance(form, ReportForm):
        return build_image_stand_in(form, stored, source, PROFILES[profile])
    return build_report_stand_in(
        form, results.revision(), [stored], [header], PROFILES[profile], cited=cited(profile, header)
    )


def cited(profile: str, header: Dataset) -> list[ResultObject]:
    """Give what the profile has of the image, as the ledger knows it."""
    return [
        ResultObject(
            kind=each.kind,
            sop_instance_uid=each.dataset.SOPInstanceUID,
            sop_class_uid=each.dataset.SOPClassUID,
            series_instance_uid=each.dataset.SeriesInstanceUID,
            study_instance_uid=each.dataset.StudyInstanceUID,
            source_sop_instance_uid=each.source_sop_instance_uid,
            profile=profile,
            path=Path(),
            sha256="",
        )
        for each in results.objects(header, profile=profile)
        if each.kind in PER_IMAGE
    ]


@pytest.mark.parametrize("case", SOURCES)
@pytest.mark.parametrize(("profile", "form"), CHAINS)
def test_no_validator_finds_an_error(profile: str, form: Form, case: str, tmp_path: Path) -> None:
    """In whatever profile it stands in, of every kind of source."""
    header = results.source(**SOURCES[case])
    if not can_be_of(header, form):
        assert form is ObjectKind.PR
        return
    built = stand_in(profile, form, header)
    assert results.errors(built.dataset, tmp_path) == []
    assert built.dataset.SOPClassUID == SOP_CLASSES[form]


@pytest.mark.parametrize(("profile", "form"), CHAINS)
def test_the_same_input_gives_the_same_bytes(profile: str, form: Form) -> None:
    """And a UID that no object of the profile has."""
    header = results.source()
    first, second = (stand_in(profile, form, header) for _ in range(2))
    assert encode(first.dataset) == encode(second.dataset)
    chain = [other for name, other in CHAINS if name == profile and other is not form]
    others = [*results.objects(header, profile=profile), *(stand_in(profile, other, header) for other in chain)]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first.dataset[keyword].value not in {each.dataset[keyword].value for each in others}


def test_every_object_has_a_form() -> None:
    """By its SOP Class, which is what a destination takes or not."""
    header = results.source()
    for name, profile in PROFILES.items():
        made: dict[Any, Form | None] = {each.kind: form_of(each) for each in cited(name, header)}
        assert made == {kind: kind for kind in profile.objects & PER_IMAGE}
        (report,) = (each.dataset for each in results.objects(header, profile=name) if each.kind is ObjectKind.SR)
        assert report.SOPClassUID == SOP_CLASSES[profile.report]


def test_forms_are_followed_to_one_that_can_be_made() -> None:
    """A form that cannot be made of an image is passed over, not the end."""
    air = PROFILES["air"]
    assert air.instead_of(ObjectKind.SEG) is ObjectKind.PR
    assert air.instead_of(ObjectKind.SEG, lambda form: form is not ObjectKind.PR) is ObjectKind.SC
    assert air.instead_of(ObjectKind.SEG, lambda _: False) is None
    assert air.instead_of(ReportForm.BASIC_TEXT) is None
    assert air.instead_of(ObjectKind.KO) is None
