"""Objects that a destination does not take: what it gets instead, and what it is told of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from pydicom import dcmread
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForProcessing,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from rich.console import Console

from cxr_triage.daemon.results.profiles import AIR, PROFILES
from cxr_triage.daemon.setting_peers import Destination
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.status import as_dict, print_tables, standing
from cxr_triage.daemon.web.metrics import registry
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState, Instead, Untaken
from cxr_triage.storage.ledger import Dispatch, Housekeeping, StandIns
from cxr_triage.storage.result_records import ResultObject
from deliveries import LEASE, NEVER, Pacs
from sites import Site, courier, settle
from steps import SetClock

SEG, PR, SC = SegmentationStorage, GrayscaleSoftcopyPresentationStateStorage, SecondaryCaptureImageStorage
SR_3D, SR, SENTENCES = Comprehensive3DSRStorage, ComprehensiveSRStorage, BasicTextSRStorage
KO = KeyObjectSelectionDocumentStorage
EVERYTHING = (SEG, PR, SC, SR_3D, SR, SENTENCES, KO)


@pytest.fixture
def site(tmp_path: Path, database: Database) -> Site:
    """Give an empty site, once per kind of database."""
    return Site(tmp_path, database)


def reported(site: Site, *names: str, profile: str = "air", **tags: Any) -> str:
    """Report a study with one more image to destinations; its UID."""
    study = site.score(**tags)
    site.report_to(*((name, profile) for name in names or ("pacs",)))
    return study


def states(site: Site, name: str = "pacs") -> dict[DeliveryState, int]:
    """Count deliveries by state."""
    counted = Housekeeping(site.database).counts().deliveries[name]
    return {state: count for state, count in counted.items() if count}


def instead(site: Site, name: str = "pacs") -> dict[str, tuple[Instead, str]]:
    """Say of each SOP Class that was not taken what is sent instead."""
    return {
        each.sop_class_uid: (each.instead, each.instead_class_uid)
        for each in Housekeeping(site.database).counts().not_taken.get(name, [])
    }


def made(site: Site, sop_class: str) -> list[ResultObject]:
    """Give what was made of a SOP Class, oldest first."""
    return [each for each in site.reporting.objects() if each.sop_class_uid == sop_class]


def test_a_pacs_that_takes_everything_gets_no_stand_in(site: Site) -> None:
    """Nothing is made that nobody asked for."""
    reported(site)
    assert settle(site, {"pacs": EVERYTHING}) == {"pacs": [SEG, SR_3D]}
    assert instead(site) == {}
    assert len(site.files()) == 2


@pytest.mark.parametrize(
    ("profile", "takes", "sent"),
    [
        ("air", (PR, SC, SR_3D), [PR, SR_3D]),
        ("air", (SC, SR, SENTENCES), [SC, SR]),
        ("air", (SEG, SENTENCES), [SEG, SENTENCES]),
        ("ohif", (PR, SC, SR_3D), [SC, SR_3D]),
        ("stone", (SC, SENTENCES), [SC, SENTENCES]),
        ("weasis", (PR, SC, SR_3D, KO), [KO, PR, SR_3D]),
        ("weasis", (SC, SENTENCES), [SC, SENTENCES]),
        ("floor", (SC,), [SC]),
    ],
)
def test_the_next_form_that_is_taken_is_sent_once(
    site: Site, profile: str, takes: Sequence[str], sent: list[str]
) -> None:
    """Of the report and of the drawing, one each; one that the profile has anyhow is not made again."""
    reported(site, profile=profile)
    told = settle(site, {"pacs": takes}, profile=profile)
    assert sorted(told["pacs"]) == sorted(sent)
    assert set(states(site)) == {DeliveryState.STORED, DeliveryState.NOT_TAKEN}
    assert Counter(each.sop_class_uid for each in site.reporting.objects()).most_common(1)[0][1] == 1


def test_what_is_sent_instead_is_counted(site: Site) -> None:
    """Class by class, down to what ends a chain."""
    reported(site, profile="weasis")
    settle(site, {"pacs": (SC,)}, profile="weasis")
    assert instead(site) == {
        SEG: (Instead.PROFILE, ""),
        PR: (Instead.STAND_IN, SC),
        SR_3D: (Instead.STAND_IN, SR),
        SR: (Instead.STAND_IN, SENTENCES),
        SENTENCES: (Instead.NOTHING, ""),
        KO: (Instead.NOTHING, ""),
    }
    assert Housekeeping(site.database).counts().untold == {"pacs": 1}


def test_status_and_metrics_say_what_is_not_taken(site: Site, tmp_path: Path) -> None:
    """In words for a person, by name for a monitor."""
    reported(site)
    settle(site, {"pacs": (PR,)})
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    settings = Settings.model_validate({"storage": {"root": tmp_path}, "destination": [pacs]})
    status = as_dict(standing(site.database, settings, utc_now), settings, now=utc_now(), alerts=[])
    (row,) = status["destinations"]
    assert [(each["sop_class"], each["count"], each["instead"]) for each in row["not_taken"]] == [
        ("Segmentation Storage", 1, "stand_in"),
        ("Basic Text SR Storage", 1, "nothing"),
        ("Comprehensive SR Storage", 1, "stand_in"),
        ("Comprehensive 3D SR Storage", 1, "stand_in"),
    ]
    said = "\n".join(status["remarks"])
    assert "pacs: does not take Segmentation Storage (1 objects): Grayscale Softcopy Presentation State Storage" in said
    assert "does not take Basic Text SR Storage (1 objects): nothing is sent instead. PACS at " in said
    assert "pacs: unread studies of which it gets no report, or no outlines, at all: 1" in said
    console = Console(record=True, width=200)
    print_tables(status, console)
    assert "not taken" in console.export_text()
    metrics = generate_latest(registry(settings, site.database, clock=SetClock())).decode()
    labels = 'destination="pacs",instead="nothing",sop_class="Basic Text SR Storage"'
    assert f"cxr_triage_deliveries_not_taken{{{labels}}} 1.0" in metrics


def test_a_pacs_that_takes_nothing_is_not_down(site: Site) -> None:
    """It answers; it gets no report and no drawing, and that is said until it takes one or the study is read."""
    reported(site)
    assert settle(site, {"pacs": ()}) == {"pacs": []}
    counts = Housekeeping(site.database).counts()
    assert (counts.untold, counts.circuits, counts.held_back) == ({"pacs": 1}, {}, {})
    assert states(site) == {DeliveryState.NOT_TAKEN: 6}


def test_destinations_of_one_profile_that_differ(site: Site) -> None:
    """Each gets what it takes; what stands in for the same is made once."""
    reported(site, "old", "new", "older")
    told = settle(site, {"old": (PR, SR), "new": EVERYTHING, "older": (PR, SENTENCES)})
    assert {name: sorted(sent) for name, sent in told.items()} == {
        "old": sorted([PR, SR]),
        "new": [SEG, SR_3D],
        "older": sorted([PR, SENTENCES]),
    }
    made_of = sorted(each.sop_class_uid for each in site.reporting.objects())
    assert made_of == sorted([SEG, PR, SR_3D, SR, SENTENCES])
    assert len(site.files()) == 5


def test_a_stand_in_says_the_same_under_a_uid_of_its_own(site: Site) -> None:
    """A report cites what the one cites that it stands in for."""
    reported(site)
    settle(site, {"pacs": (SEG, SR)})
    (first,), (second,) = made(site, SR_3D), made(site, SR)
    assert first.sop_instance_uid != second.sop_instance_uid
    assert (first.profile, second.profile, second.stand_in) == ("air", "air", True)
    (seg,) = made(site, SEG)
    for each in (first, second):
        document = dcmread(site.outbox.absolute(each.path))
        assert seg.sop_instance_uid in str(document.CurrentRequestedProcedureEvidenceSequence)


def test_a_later_report_follows_the_one_that_was_taken(site: Site) -> None:
    """A predecessor that nobody has would say nothing to the PACS."""
    study = reported(site)
    settle(site, {"pacs": (SEG, SR)})
    (first,) = made(site, SR)
    reported(site, StudyInstanceUID=study)
    settle(site, {"pacs": (SEG, SR)})
    assert predecessors(site, made(site, SR)[-1]) == [first.sop_instance_uid]
    assert predecessors(site, made(site, SR_3D)[-1]) == [first.sop_instance_uid]


def test_a_later_report_follows_all_that_was_told(site: Site) -> None:
    """Destinations of one profile may have had different forms of the earlier one: each finds its own."""
    study = reported(site, "old", "new")
    takes = {"old": (SEG, SR), "new": (SEG, SR_3D)}
    settle(site, takes)
    told = {each.sop_instance_uid for sop_class in (SR, SR_3D) for each in made(site, sop_class)}
    reported(site, "old", "new", StudyInstanceUID=study)
    settle(site, takes)
    for sop_class in (SR, SR_3D):
        assert set(predecessors(site, made(site, sop_class)[-1])) == told


def predecessors(site: Site, report: ResultObject) -> list[str]:
    """Name the documents that a report follows."""
    document = dcmread(site.outbox.absolute(report.path))
    return [
        item.ReferencedSOPInstanceUID
        for study in document.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def test_a_later_revision_uses_stand_ins_of_images_again(site: Site) -> None:
    """Of each image one drawing."""
    study = reported(site)
    settle(site, {"pacs": (PR, SR_3D)})
    reported(site, StudyInstanceUID=study)
    assert settle(site, {"pacs": (PR, SR_3D)}) == {"pacs": [SR_3D, PR]}
    assert len(made(site, PR)) == 2


def test_pixels_that_are_not_for_presentation_have_no_presentation_state(site: Site) -> None:
    """The next form is made."""
    raw = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
    reported(site, SOPClassUID=DigitalXRayImageStorageForProcessing, **raw)
    assert sorted(settle(site, {"pacs": (PR, SC, SR_3D)})["pacs"]) == sorted([SC, SR_3D])


def test_a_profile_may_have_no_stand_ins(site: Site) -> None:
    """A site that wants none of them says so."""
    profiles = {"air": replace(AIR, stand_ins={})}
    reported(site)
    assert settle(site, {"pacs": (PR, SC, SR)}, profiles=profiles) == {"pacs": []}
    assert instead(site) == {SEG: (Instead.NOTHING, ""), SR_3D: (Instead.NOTHING, "")}


def test_a_pacs_that_was_upgraded_gets_the_next_study_as_it_is(site: Site) -> None:
    """Each object is negotiated anew; what was not taken before is offered again if a person says so."""
    reported(site)
    settle(site, {"pacs": (PR, SR)})
    reported(site)
    assert settle(site, {"pacs": EVERYTHING})["pacs"] == [SEG, SR_3D]
    assert all(each.taken_since for each in Housekeeping(site.database).counts().not_taken["pacs"])
    dispatch = Dispatch(site.database, lease=LEASE)
    assert dispatch.replay_not_taken("pacs") == 2
    assert settle(site, {"pacs": EVERYTHING})["pacs"] == [SEG, SR_3D]
    assert dispatch.replay_not_taken("pacs") == 0
    assert set(states(site)) == {DeliveryState.STORED}


def test_what_is_offered_again_in_vain_goes_on_where_it_had_ended(site: Site) -> None:
    """A PACS that takes another of the forms by now gets that one, and nothing is made twice."""
    reported(site)
    settle(site, {"pacs": ()})
    files = site.files()
    assert Dispatch(site.database, lease=LEASE).replay_not_taken("pacs") == 2
    assert sorted(settle(site, {"pacs": (PR, SENTENCES)})["pacs"]) == sorted([PR, SENTENCES])
    assert site.files() == files


def test_a_stand_in_is_the_same_under_other_words_of_its_profile(site: Site) -> None:
    """Offered again after the site changed its profile: what was made before goes again, and nothing besides."""
    reported(site)
    settle(site, {"pacs": (PR, SENTENCES)})
    before = {each.sop_instance_uid for each in site.reporting.objects()}
    assert Dispatch(site.database, lease=LEASE).replay_not_taken("pacs") == 2
    other = PROFILES | {"air": replace(PROFILES["air"], notice="Another word", meanings={"SCT:60046008": "Erguss"})}
    assert settle(site, {"pacs": (PR, SENTENCES)}, profiles=other)["pacs"] == []
    assert {each.sop_instance_uid for each in site.reporting.objects()} == before
    assert set(states(site)) == {DeliveryState.STORED, DeliveryState.NOT_TAKEN}


def test_two_destinations_share_the_stand_ins_of_each_revision(site: Site) -> None:
    """Also where one comes when the other has had two revisions: its reports name what that one has as predecessors."""
    study = reported(site, "one", "two")
    settle(site, {"one": (PR, SR)})
    reported(site, "one", "two", StudyInstanceUID=study)
    settle(site, {"one": (PR, SR)})
    made_for_one = [each.sop_instance_uid for each in made(site, SR)]
    assert len(made_for_one) == 2
    told = settle(site, {"two": (PR, SR)})
    assert told["two"].count(SR) == 2
    assert [each.sop_instance_uid for each in made(site, SR)] == made_for_one


def test_without_its_image_nothing_can_be_made(site: Site) -> None:
    """That is decided, and said; it does not wait for ever."""
    reported(site)
    for image in site.inbox.absolute(Path()).rglob("*.dcm"):
        image.unlink()
    settle(site, {"pacs": (PR, SR)})
    assert {each for each, _ in instead(site).values()} == {Instead.NOTHING}


def test_images_stay_while_a_stand_in_is_due(site: Site) -> None:
    """It is made of them."""
    study = reported(site)
    site.reading_list.finish(study, actor="reader")
    late = utc_now() + timedelta(days=1)
    with Pacs().serving(SR) as port:
        sender = courier(site, "pacs", port)
        while sender.deliver_batch(NEVER):
            pass
    assert Housekeeping(site.database).forgettable_files(late) == []
    settle(site, {"pacs": (PR, SR)})
    assert {each.place for each in Housekeeping(site.database).forgettable_files(late)} == {"inbox", "outbox"}


def test_no_image_stays_for_a_destination_that_is_gone(site: Site) -> None:
    """Nothing is sent there, nor decided for it, however long it is waited for."""
    study = reported(site, "gone", "silent")
    site.reading_list.finish(study, actor="reader")
    late = utc_now() + timedelta(days=1)
    with Pacs().serving(SR) as port:
        sender = courier(site, "gone", port)
        while sender.deliver_batch(NEVER):
            pass
    assert (instead(site, "gone")[SEG], states(site, "silent")) == ((Instead.DUE, ""), {DeliveryState.PENDING: 2})

    def places(*configured: str) -> set[str]:
        keeping = Housekeeping(site.database, destinations=configured)
        return {each.place for each in keeping.forgettable_files(late)}

    assert places("gone") == set()
    assert places("silent") == set()
    assert places("other") == {"inbox"}
    assert places() == {"inbox"}


class _FailsOnce(StandIns):
    """A ledger whose database goes away once, before or after a commit."""

    def __init__(self, database: Database, *, after_commit: bool) -> None:
        super().__init__(database)
        self._after_commit = after_commit
        self.failures = 0

    def record_stand_in(self, untaken: Untaken, made: ResultObject) -> bool:
        """Fail the first time."""
        if self.failures:
            return super().record_stand_in(untaken, made)
        self.failures += 1
        if self._after_commit:
            super().record_stand_in(untaken, made)
        raise StorageError("the connection was lost: start the database")


@pytest.mark.parametrize("after_commit", [False, True])
def test_a_crash_while_recording_doubles_nothing(site: Site, after_commit: bool) -> None:
    """Made again from the same rows, it is the same object."""
    reported(site)
    ledger = _FailsOnce(site.database, after_commit=after_commit)
    told = settle(site, {"pacs": (PR, SR)}, ledger=ledger)
    assert (sorted(told["pacs"]), ledger.failures) == (sorted([PR, SR]), 1)
    assert Counter(each.sop_class_uid for each in site.reporting.objects()) == {SEG: 1, PR: 1, SR_3D: 1, SR: 1}


def test_two_makers_make_one(site: Site) -> None:
    """Who comes second finds it decided, and leaves no file."""
    reported(site)
    with Pacs().serving(SR) as port:
        while courier(site, "pacs", port).deliver_batch(NEVER):
            pass
    ledger = StandIns(site.database)
    due = ledger.due(["pacs"], 9)
    first, second = site.maker(("pacs", "air")), site.maker(("pacs", "air"), ledger=_Late(site.database, due))
    assert first.decide_pending() == 2
    files = site.files()
    assert second.decide_pending() == 0
    assert site.files() == files


class _Late(StandIns):
    """A ledger as it was a moment ago."""

    def __init__(self, database: Database, due: list[Untaken]) -> None:
        super().__init__(database)
        self._due = due

    def due(self, *_: object, **__: object) -> list[Untaken]:
        """Give what was due then."""
        return self._due


def test_withdrawn_results_have_no_stand_in(site: Site) -> None:
    """Nobody is told what was taken back."""
    reported(site)
    with Pacs().serving(SR) as port:
        while courier(site, "pacs", port).deliver_batch(NEVER):
            pass
    site.withdraw_all()
    assert site.maker(("pacs", "air")).decide_pending() == 0
    assert {each for each, _ in instead(site).values()} == {Instead.DUE}
