"""`cxr-triage withdraw`: a study's results count no more, and whoever has them is told so."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset

import results
from cxr_triage.daemon.report import ReportRole
from cxr_triage.daemon.roles import REPORT
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.daemon.withdraw import withdraw_study
from cxr_triage.model.errors import StaleAttemptError, StorageError
from cxr_triage.model.priority import Level
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.commitment_records import (
    NO_SUCH_OBJECT_INSTANCE,
    CommitmentReport,
    Failure,
    Reception,
    Subject,
)
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import DeliveryState, Instead
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Circuits, Commitments, Dispatch, Housekeeping, Reporting
from cxr_triage.storage.result_records import ObjectKind, Reason, ResultObject, Revision, RevisionState
from deliveries import LEASE, Pacs
from peers import eventually, running
from rejecting import (
    EVERYTHING,
    FIRST,
    SECOND,
    STUDY,
    dataset,
    deliver,
    left,
    notes,
    rejected,
    report,
    settle,
    title,
    uids,
)
from sites import POLICY, Site

SEG, PR, SC, SR, KO, NOTE = ObjectKind


@pytest.fixture
def site(tmp_path: Path, database: Database) -> Site:
    """Give an empty site, once per kind of database."""
    return Site(tmp_path, database)


def say_so(site: Site, *names: str, profile: str = "weasis") -> ResultObject:
    """Report what is due, which is a withdrawal; its SR."""
    site.report_to(*((name, profile) for name in names or ("pacs",)))
    [*_, made] = (each for each in site.reporting.objects() if each.kind is SR)
    return made


def predecessors(document: Dataset) -> list[str]:
    """Name the documents that a report follows."""
    return [
        item.ReferencedSOPInstanceUID
        for study in document.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def first_words(document: Dataset) -> str:
    """Give the first sentence of a report."""
    contained = (item for item in document.ContentSequence if item.RelationshipType == "CONTAINS")
    return next(str(item.TextValue) for item in contained if item.ValueType == "TEXT")


def revisions(site: Site) -> dict[RevisionState, int]:
    """Count revisions by state."""
    counted = Housekeeping(site.database).counts().revisions
    return {state: count for state, count in counted.items() if count}


def states(site: Site, name: str = "pacs") -> dict[DeliveryState, int]:
    """Count deliveries by state."""
    counted = Housekeeping(site.database).counts().deliveries[name]
    return {state: count for state, count in counted.items() if count}


def test_findings_leave_the_list(site: Site) -> None:
    """The study stands as it was ordered, never below, and the list says why."""
    report(site)
    site.reading_list.set_ordered(STUDY, Level.MEDIUM, actor="tester", policy=POLICY)
    [before] = site.reading_list.studies()
    site.withdraw(STUDY)
    [after] = site.reading_list.studies()
    assert (before.priority.effective, before.priority.utility > 0) == (Level.HIGH, True)
    assert (after.priority, after.ordered) == (after.priority_without_findings, Level.MEDIUM)
    assert after.remarks == ("Withdrawn by a person: the results of 1 of 1 images.",)
    assert any(entry.event == "withdrawn" for entry in site.reading_list.history(STUDY))


@pytest.mark.parametrize("profile", ["air", "ohif", "stone", "weasis", "floor"])
def test_another_report_says_it_in_its_first_sentence(site: Site, profile: str, tmp_path: Path) -> None:
    """In the form that its destination takes, after the report that it takes back; where notes are not taken, too."""
    old = report(site, profile=profile)
    settle(site, {"pacs": False}, profile=profile)
    site.withdraw(STUDY)
    made = say_so(site, profile=profile)
    document = dataset(site, made)
    [earlier] = [each for each in old if each.kind is SR]
    assert (predecessors(document), document.SOPClassUID) == ([earlier.sop_instance_uid], earlier.sop_class_uid)
    assert first_words(document).startswith("WITHDRAWN: the earlier result of this study is withdrawn (reason: quali")
    assert document.SeriesDescription == "Withdrawn result (AI), research, not for diagnosis, rev 2"
    assert results.errors(document, tmp_path) == []
    assert "WITHDRAWN" in results.dump(document, tmp_path)
    assert settle(site, {"pacs": False}, profile=profile) == {"pacs": [made.sop_instance_uid]}
    assert revisions(site) == {RevisionState.REPORTED: 1, RevisionState.WITHDRAWN: 1}


@pytest.mark.parametrize(
    ("reason", "code"),
    [(Reason.QUALITY, "113001"), (Reason.PATIENT_SAFETY, "113037"), (Reason.WORKLIST_ENTRY, "113038")],
)
def test_all_that_a_destination_has_is_rejected(site: Site, reason: Reason, code: str) -> None:
    """Reports too, for the reason that was given, once the report that says so is there; what was told before, not."""
    old = report(site)
    new = report(site, image=SECOND)
    settle(site, {"pacs": True})
    site.withdraw(STUDY, "pacs", reason=reason)
    made = say_so(site)
    told = settle(site, {"pacs": True})["pacs"]
    first, second = notes(site)
    assert (title(first), rejected(first)) == ("113001", uids(old, KO))
    assert (title(second), rejected(second)) == (code, uids(old, SEG, PR, SR) | uids(new))
    assert told == [made.sop_instance_uid, second.SOPInstanceUID]


def test_a_note_does_not_wait_for_a_report_that_is_refused(site: Site) -> None:
    """Nothing stands instead of what was withdrawn: a PACS that does not take the report that says so is still told."""
    report(site)
    settle(site, {"pacs": True})
    site.withdraw(STUDY, "pacs")
    say_so(site)
    with Pacs(statuses=[0xC000]).serving(*EVERYTHING) as port:
        deliver(site, "pacs", port)
    assert states(site)[DeliveryState.DEAD] == 1
    settle(site, {"pacs": True})
    assert len(notes(site)) == 1


def test_a_note_that_a_pacs_refuses_leaves_the_pacs_alone_with_nothing_else(site: Site) -> None:
    """dcm4chee, where it does not have an instance: the note is given up, and the destination is up."""
    report(site)
    settle(site, {"pacs": True})
    site.withdraw(STUDY, "pacs")
    say_so(site)
    settle(site, {"pacs": True}, pacs={"pacs": Pacs(statuses=[0x0000, 0xA772])})
    assert states(site)[DeliveryState.DEAD] == 1
    assert not Circuits(site.database).of("pacs").is_open


def test_what_is_withdrawn_is_not_asked_to_be_kept_nor_sent_again(site: Site) -> None:
    """Where no note is taken, too: a PACS that does not commit to it gets it no more."""
    report(site)
    settle(site, {"pacs": False})
    ledger = Commitments(site.database, lease=LEASE, clock=lambda: utc_now() + timedelta(days=1))
    request = ledger.plan("tester", "pacs", limit=3, settle=timedelta(0), subjects=[Subject.RESULTS])
    assert request is not None
    site.withdraw(STUDY)
    assert ledger.plan("tester", "pacs", limit=9, settle=timedelta(0), subjects=[Subject.RESULTS]) is None
    failed = tuple(Failure(reference, NO_SUCH_OBJECT_INSTANCE) for reference in request.references)
    lost = CommitmentReport(transaction_uid=request.transaction_uid, committed=(), failed=failed)
    at_once = {"resend_at": lambda _: utc_now(), "ask_again_at": lambda _: utc_now()}
    assert ledger.record_report(lost, destinations=["pacs"], **at_once) is Reception.RECORDED
    assert states(site) == {DeliveryState.STORED: 4}
    counts = Housekeeping(site.database, committing=["pacs"]).counts()
    assert counts.oldest_undelivered_at is None


def test_what_was_not_sent_is_not_sent(site: Site) -> None:
    """And who was told nothing is told nothing."""
    report(site, "had", "had-not")
    settle(site, {"had": True})
    assert site.withdraw(STUDY, "had", "had-not") == (1, 4)
    assert states(site, "had-not") == {DeliveryState.WITHDRAWN: 4}
    made = say_so(site, "had", "had-not")
    assert settle(site, {"had": True, "had-not": True}) == {
        "had": [made.sop_instance_uid, notes(site)[0].SOPInstanceUID],
        "had-not": [],
    }
    assert Dispatch(site.database, lease=LEASE).replay_dead("had-not") == 0


def test_what_was_given_up_or_not_taken_is_not_brought_back(site: Site) -> None:
    """By a replay, nor by a stand-in."""
    report(site, "refuses", "does-not", profile="air")
    dispatch = Dispatch(site.database, lease=LEASE)
    for delivery in dispatch.claim("tester", "refuses", 1):
        dispatch.record_dead(delivery, "refused")
    for delivery in dispatch.claim("tester", "does-not", 1):
        dispatch.record_not_taken(delivery, error="does not take it")
    site.withdraw(STUDY)
    assert states(site, "refuses") == {DeliveryState.WITHDRAWN: 2}
    assert states(site, "does-not") == {DeliveryState.NOT_TAKEN: 1, DeliveryState.WITHDRAWN: 1}
    assert site.maker(("does-not", "air")).decide_pending() == 0
    counts = Housekeeping(site.database).counts()
    assert ([each.instead for each in counts.not_taken["does-not"]], counts.untold) == ([Instead.NOTHING], {})
    assert dispatch.replay_dead("refuses") == dispatch.replay_not_taken("does-not") == 0


def test_what_is_being_sent_is_recorded_and_rejected(site: Site) -> None:
    """Whoever has it must learn that it does not count."""
    report(site, profile="air")
    dispatch = Dispatch(site.database, lease=LEASE)
    [sending] = dispatch.claim("tester", "pacs", 1)
    site.withdraw(STUDY, "pacs")
    assert states(site) == {DeliveryState.PENDING: 1, DeliveryState.WITHDRAWN: 1}
    dispatch.record_stored(sending)
    say_so(site, profile="air")
    settle(site, {"pacs": True}, profile="air")
    [note] = notes(site)
    assert rejected(note) == {sending.object.sop_instance_uid}


@pytest.mark.parametrize("takes_notes", [True, False])
def test_what_may_have_arrived_is_sent_to_its_end_where_a_note_can_reject_it(site: Site, takes_notes: bool) -> None:
    """Its answer may have been lost; without notes, sending it again would only show it once more."""
    report(site, profile="air")
    dispatch = Dispatch(site.database, lease=LEASE)
    claimed = dispatch.claim("tester", "pacs", 1)
    rejecting = ["pacs"] if takes_notes else []
    site.withdraw(STUDY, *rejecting)
    dispatch.give_back(claimed)
    assert site.withdrawals(*rejecting).drop_pending() == (0 if takes_notes else 1)
    made = say_so(site, profile="air")
    told = set(settle(site, {"pacs": takes_notes}, profile="air")["pacs"])
    if takes_notes:
        assert rejected(notes(site)[0]) == {claimed[0].object.sop_instance_uid} < told
    else:
        assert (told, notes(site)) == (set(), [])
    assert (made.sop_instance_uid in told) is takes_notes


def test_a_withdrawal_is_done_once(site: Site) -> None:
    """Said again, nothing happens; an unknown study is said to be so."""
    report(site)
    settle(site, {"pacs": True})
    assert site.withdraw(STUDY, "pacs") == (1, 4)
    assert site.withdraw(STUDY, "pacs", reason=Reason.PATIENT_SAFETY) == (0, 0)
    say_so(site)
    settle(site, {"pacs": True})
    assert site.withdraw(STUDY, "pacs") == (0, 0)
    assert site.reporting.studies_to_report(9) == []
    assert settle(site, {"pacs": True}) == {"pacs": []}
    assert site.withdraw("9.9") is None


def test_a_result_in_the_making_is_not_recorded(site: Site) -> None:
    """Nobody is told what was withdrawn meanwhile, and no report says so."""
    site.score(StudyInstanceUID=STUDY)
    revision = site.reporting.open_revision(STUDY, POLICY.digest())
    site.withdraw(STUDY)
    with pytest.raises(StaleAttemptError, match="is withdrawn since it was begun"):
        site.reporting.complete_revision(revision, [], [("pacs", "air")])
    assert site.reporting.studies_to_report(9) == []


def test_an_image_that_waits_is_withdrawn_with_the_study(site: Site) -> None:
    """It is read, for nothing."""
    report(site)
    site.score(StudyInstanceUID=STUDY, SOPInstanceUID=SECOND)
    site.withdraw(STUDY)
    say_so(site)
    assert site.reporting.studies_to_report(9) == []
    assert Housekeeping(site.database).counts().instances[InstanceState.SCORED] == 2


def test_a_new_image_makes_results_of_itself(site: Site) -> None:
    """Its report follows the one that says that the earlier ones are withdrawn; that comes first."""
    report(site)
    settle(site, {"pacs": False})
    site.withdraw(STUDY)
    site.score(StudyInstanceUID=STUDY, SOPInstanceUID=SECOND)
    with pytest.raises(StaleAttemptError, match="withdrawn meanwhile"):
        site.reporting.open_revision(STUDY, POLICY.digest())
    withdrawal = say_so(site)
    site.report_to(("pacs", "weasis"))
    settle(site, {"pacs": False})
    made = site.reporting.objects()[-4:]
    [sr] = [dataset(site, each) for each in made if each.kind is SR]
    assert predecessors(sr) == [withdrawal.sop_instance_uid]
    assert {each.source_sop_instance_uid for each in made} == {SECOND, ""}
    assert FIRST not in str(sr)
    [listed] = site.reading_list.studies()
    assert (listed.priority.effective, len(listed.remarks)) == (Level.HIGH, 1)


def test_replay_undoes_a_withdrawal_under_new_uids(site: Site) -> None:
    """A PACS may refuse what it was told to use no more; the list is as before."""
    old = report(site)
    settle(site, {"pacs": True})
    [before] = site.reading_list.studies()
    site.withdraw(STUDY, "pacs")
    withdrawal = say_so(site)
    settle(site, {"pacs": True})
    assert site.withdrawals("pacs").undo(STUDY, actor="tester", policy=POLICY) == 1
    assert site.withdrawals("pacs").undo(STUDY, actor="tester", policy=POLICY) == 0
    [after] = site.reading_list.studies()
    assert (after.priority, after.remarks) == (before.priority, ())
    site.report_to(("pacs", "weasis"))
    new = {each.sop_instance_uid: each for each in site.reporting.objects()[-4:]}
    assert settle(site, {"pacs": True})["pacs"] == list(new)
    assert not uids(old) & new.keys()
    documents = {each.kind: dataset(site, each) for each in new.values()}
    assert documents[SEG].SeriesDescription.endswith(", rev 2")
    assert predecessors(documents[SR]) == [withdrawal.sop_instance_uid]
    site.withdraw(STUDY, "pacs")
    say_so(site)
    settle(site, {"pacs": True})
    assert rejected(notes(site)[-1]) == new.keys()


def test_after_the_time_of_its_files_a_result_can_be_withdrawn(site: Site) -> None:
    """Of what the ledger knows of the patient; it cannot be undone then."""
    old = report(site, profile="air", PatientName="Müller^Jürgen")
    settle(site, {"pacs": True}, profile="air")
    for image in site.inbox.absolute(Path()).rglob("*.dcm"):
        image.unlink()
    site.withdraw(STUDY, "pacs")
    document = dataset(site, say_so(site, profile="air"))
    settle(site, {"pacs": True}, profile="air")
    assert str(document.PatientName) == str(notes(site)[0].PatientName) == "Müller^Jürgen"
    assert rejected(notes(site)[0]) == uids(old)


def test_a_pacs_that_takes_no_such_report_gets_the_next_form(site: Site) -> None:
    """As of any report."""
    report(site, profile="air")
    plain = [uid for uid in EVERYTHING if not uid.endswith((".88.33", ".88.34"))]
    with Pacs().serving(*plain) as port:
        _settle_forms(site, port)
        site.withdraw(STUDY)
        say_so(site, profile="air")
        _settle_forms(site, port)
    made = dataset(site, site.reporting.objects()[-1])
    assert first_words(made).startswith("WITHDRAWN")
    assert made.SOPClassUID.endswith(".88.11")
    assert len(predecessors(made)) == 1


class _FailsOnce(Reporting):
    """A ledger whose database goes away once, before or after a commit."""

    def __init__(self, database: Database, *, after_commit: bool) -> None:
        super().__init__(database)
        self._after_commit = after_commit
        self.failures = 0

    def complete_revision(
        self, revision: Revision, objects: Sequence[ResultObject], destinations: Sequence[tuple[str, str]]
    ) -> None:
        """Fail the first time."""
        if not self.failures:
            self.failures += 1
            if self._after_commit:
                super().complete_revision(revision, objects, destinations)
            raise StorageError("the connection was lost: start the database")
        super().complete_revision(revision, objects, destinations)


@pytest.mark.parametrize("after_commit", [False, True])
def test_a_crash_doubles_no_withdrawal(site: Site, after_commit: bool) -> None:
    """Made again from the same rows, it is the same report."""
    report(site, "pacs-air", profile="air")
    settle(site, {"pacs-air": False}, profile="air")
    site.withdraw(STUDY)
    ledger = _FailsOnce(site.database, after_commit=after_commit)
    reporter = site.reporter("air", reporting=ledger)
    for _ in range(2):
        reporter.report_pending()
        site.clock.now += timedelta(seconds=20)
    assert ledger.failures == 1
    reports = [each for each in site.reporting.objects() if each.kind is SR]
    assert len(reports) == 2
    assert settle(site, {"pacs-air": False}, profile="air") == {"pacs-air": [reports[-1].sop_instance_uid]}


def test_a_withdrawn_study_needs_no_files(site: Site) -> None:
    """Once it was read, its images and objects leave with their age."""
    report(site)
    settle(site, {"pacs": True})
    site.withdraw(STUDY, "pacs")
    site.score(StudyInstanceUID=STUDY, SOPInstanceUID=SECOND)
    site.withdraw(STUDY, "pacs")
    say_so(site)
    settle(site, {"pacs": True})
    site.reading_list.finish(STUDY, actor="reader")
    late = utc_now() + timedelta(days=1)
    kept = {file.path for file in Housekeeping(site.database).forgettable_files(late)}
    assert len(kept) == 2 + len(site.files())


def test_the_role_tells_who_takes_notes(tmp_path: Path, sqlite_url: str) -> None:
    """With real settings and the command, in a thread."""
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104, "profile": "floor"}
    settings = Settings.model_validate(
        {
            "storage": {"root": tmp_path, "database": sqlite_url},
            "report": {"poll_seconds": 0.2},
            "destination": [{"name": "notes", **pacs, "rejection_notes": True}, {"name": "none", **pacs}],
        }
    )
    site = Site(tmp_path, open_database(sqlite_url))

    def made(count: int) -> bool:
        return len(site.reporting.objects()) == count

    with running(ReportRole(settings).run), Pacs().serving(*EVERYTHING) as port:
        site.score(StudyInstanceUID=STUDY)
        ring(settings.run_folder, REPORT)
        eventually(lambda: made(2))
        for name in ("notes", "none"):
            deliver(site, name, port)
        words = withdraw_study(STUDY, "quality", settings, site.database, actor="tester")
        assert words.endswith("are withdrawn: images: 1, finished objects: 2")
        eventually(lambda: made(3))
        for name in ("notes", "none"):
            deliver(site, name, port)
        eventually(lambda: made(4))
    assert (left(site, "notes"), left(site, "none")) == (True, False)
    assert len(rejected(notes(site)[0])) == 2
    site.database.close()


def _settle_forms(site: Site, port: int) -> None:
    deliver(site, "pacs", port)
    while site.maker(("pacs", "air")).decide_pending():
        deliver(site, "pacs", port)
