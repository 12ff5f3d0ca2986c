"""The same rows give the same bytes, whoever makes them and when."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID

import results
from builders import MORNING, finding, thorax_masks
from cxr_triage.daemon.results.finishing import Encoded, encode
from cxr_triage.daemon.results.objects import build_objects
from cxr_triage.daemon.results.profiles import AIR, PROFILES
from cxr_triage.daemon.results.uids import IMPLEMENTATION_CLASS_UID, derived_uid
from cxr_triage.storage.result_records import ObjectKind


def digests() -> list[str]:
    """Give the digests of a study's objects, in all profiles."""
    made = []
    for profile in PROFILES:
        headers = results.source(), results.source(SOPInstanceUID="1.2.3.4.1.2")
        made += [encode(built.dataset) for built in results.objects(*headers, profile=profile)]
    return [hashlib.sha256(b"".join(encoded)).hexdigest() for encoded in made]


def _digests_of_a_process(seed: str) -> list[str]:
    command = "import test_daemon_results_determinism as t; print(*t.digests())"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)}
    told = subprocess.run(
        [sys.executable, "-c", command], check=True, capture_output=True, text=True, env=environment, timeout=120
    )
    return told.stdout.split()


def test_two_processes_write_the_same_bytes() -> None:
    """Neither the clock, nor the order of a set, nor a random UID shows in an object."""
    here = digests()
    assert len(set(here)) == 18
    assert here == _digests_of_a_process("1") == _digests_of_a_process("2")


def test_another_revision_has_another_report_and_the_same_segs() -> None:
    """UIDs follow from what an object is about."""
    first = [built.dataset.SOPInstanceUID for built in results.objects(results.source())]
    later = [built.dataset.SOPInstanceUID for built in results.objects(results.source(), digest="00" * 32)]
    assert first[0] == later[0]
    assert first[1] != later[1]


def made_again(**changes: Any) -> list[Encoded]:
    """Make a study's objects, the prediction's times changed, from a revision that was opened later."""
    header = results.source(TimezoneOffsetFromUTC="+0000")
    stored = dataclasses.replace(results.stored(header), **changes)
    revision = results.revision(created_at=MORNING + timedelta(hours=3))
    return [encode(each.dataset) for each in build_objects(revision, [stored], results.sources(header), AIR)]


def test_what_is_made_again_at_another_time_is_the_same_object() -> None:
    """As from a backup: neither when an image was scored nor when its revision was opened shows."""
    first = [encode(built.dataset) for built in results.objects(results.source(TimezoneOffsetFromUTC="+0000"))]
    assert made_again(scored_at=MORNING + timedelta(hours=3)) == first


def test_what_is_made_of_an_image_that_comes_again_has_the_same_uids() -> None:
    """As after a backup that did not know it: a PACS is not given a second result, only another date."""
    first = [encode(built.dataset) for built in results.objects(results.source(TimezoneOffsetFromUTC="+0000"))]
    again = made_again(received_at=MORNING + timedelta(hours=3))
    assert [each.meta for each in again] == [each.meta for each in first]
    assert [each.dataset for each in again] == [
        each.dataset.replace(b"080000.000000", b"110000.000000") for each in first
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_other_content_is_another_object(profile: str) -> None:
    """Computed again with another outcome, on another machine say: no UID stands for two contents."""
    header = results.source()
    masks = thorax_masks(header.Rows, header.Columns)
    masks[0, 0, 0] ^= True
    outcomes = [
        results.stored(header),
        results.stored(header, masks_CHW=masks),
        results.stored(header, findings=(finding(probability=0.9001),)),
    ]
    made = [
        build_objects(results.revision(), [outcome], results.sources(header), PROFILES[profile]) for outcome in outcomes
    ]
    contents: dict[str, set[bytes]] = {}
    for built in (each for objects in made for each in objects):
        for uid in (built.dataset.SOPInstanceUID, built.dataset.SeriesInstanceUID):
            contents.setdefault(uid, set()).add(encode(built.dataset).dataset)
    assert {len(each) for each in contents.values()} == {1}
    uids = {
        kind: len({each.dataset.SOPInstanceUID for objects in made for each in objects if each.kind is kind})
        for kind in PROFILES[profile].objects
    }
    assert uids[ObjectKind.SR] == 3
    # The masks of the first and the third are the same, and so is their SEG.
    assert uids.get(ObjectKind.SEG, 2) == 2


def test_profiles_share_no_uid() -> None:
    """The same result for two viewers is two objects in two series."""
    made = [built.dataset for profile in PROFILES for built in results.objects(results.source(), profile=profile)]
    uids = [uid for dataset in made for uid in (dataset.SOPInstanceUID, dataset.SeriesInstanceUID)]
    assert len(set(uids)) == len(uids) == 24


def test_a_file_has_a_zero_preamble_and_our_implementation() -> None:
    """PS3.10 section 7.1; nothing in the preamble can be another format."""
    for built in results.objects(results.source()):
        meta = encode(built.dataset).meta
        assert bytes(128) + b"DICM" == meta[:132]
        assert built.dataset.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert results.written(built.dataset).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_uids_are_uuids_under_their_root() -> None:
    """Different words, or the same ones cut elsewhere, are another UID (PS3.5 B.2)."""
    uids = {derived_uid("a", "b"), derived_uid("ab"), derived_uid("b", "a"), derived_uid("a", "b", "")}
    assert len(uids) == 4
    assert all(UID(uid).is_valid and uid.startswith("2.25.") for uid in uids)
