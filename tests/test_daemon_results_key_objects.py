"""Key Object Selections: a flag on images with findings, and on nothing else."""

import dataclasses

import builders
import results
from cxr_triage.daemon.results.objects import build_objects
from cxr_triage.daemon.results.profiles import WEASIS
from cxr_triage.storage.result_records import ObjectKind


def test_it_points_at_the_image_and_at_all_that_shows_its_findings() -> None:
    """SEG, presentation state and SR; each as evidence, too (PS3.3 C.17.6.2.1)."""
    built = results.objects(results.source(), profile="weasis")
    flag = results.of_kind(built, ObjectKind.KO)
    assert flag.ConceptNameCodeSequence[0].CodeMeaning == "Of Interest"
    others = {each.dataset.SOPInstanceUID for each in built if each.kind is not ObjectKind.KO} | {"1.2.3.4.1.1"}
    pointed_at = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in flag.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    }
    (study,) = flag.CurrentRequestedProcedureEvidenceSequence
    evidence = {
        each.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for each in series.ReferencedSOPSequence
    }
    assert pointed_at == evidence == others


def test_images_are_pointed_at_as_images() -> None:
    """SEG and source are images, presentation states and documents are not (PS3.16 TID 2010)."""
    flag = results.of_kind(results.objects(results.source(), profile="weasis"), ObjectKind.KO)
    kinds = [item.ValueType for item in flag.ContentSequence if "ReferencedSOPSequence" in item]
    assert kinds == ["IMAGE", "IMAGE", "COMPOSITE", "COMPOSITE"]


def test_nothing_is_flagged_where_nothing_was_found() -> None:
    """No flag at all; and of two images the one with a finding."""
    nothing = (builders.finding("Effusion", 0.1),)
    first = results.source()
    second = results.source(SOPInstanceUID="1.2.3.4.1.2")
    quiet = [results.stored(each, findings=nothing) for each in (first, second)]
    sources = results.sources(first, second)
    built = build_objects(results.revision(), quiet, sources, WEASIS)
    assert ObjectKind.KO not in {each.kind for each in built}
    mixed = build_objects(results.revision(), [quiet[0], results.stored(second)], sources, WEASIS)
    flagged = str(results.of_kind(mixed, ObjectKind.KO).CurrentRequestedProcedureEvidenceSequence)
    assert ("1.2.3.4.1.2" in flagged, "1.2.3.4.1.1\n" in flagged) == (True, False)


def test_a_profile_without_a_report_has_a_flag_all_the_same() -> None:
    """A site chooses its objects."""
    alone = dataclasses.replace(WEASIS, name="flag", objects=frozenset({ObjectKind.KO}))
    header = results.source()
    (flag,) = build_objects(results.revision(), [results.stored(header)], results.sources(header), alone)
    assert flag.kind is ObjectKind.KO
