"""What a destination gets instead of objects that it does not take: made when that has been found out, not before."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.results.objects import (
    PICTURED,
    BuiltObject,
    build_image_stand_in,
    build_report_stand_in,
    can_be_of,
    form_of,
)
from cxr_triage.daemon.results.profiles import SOP_CLASSES, Form, Profile, ReportForm
from cxr_triage.daemon.setbacks import Backoff, Setbacks
from cxr_triage.daemon.workbench import Workbench
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.model.header import quiet_pydicom
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.delivery_records import Instead, Untaken
from cxr_triage.storage.ledger import StandIns
from cxr_triage.storage.result_records import ObjectKind

#: Objects looked at in one go.
BATCH: Final = 50

log = get_logger(__name__)


class StandInMaker:
    """Decides for one object after the other, and makes what its profile has as the next form."""

    def __init__(
        self,
        ledger: StandIns,
        *,
        bench: Workbench,
        destinations: Sequence[tuple[str, str]],
        profiles: Mapping[str, Profile],
        backoff: Backoff | None = None,
        clock: Clock = utc_now,
    ) -> None:
        """Describe the work; nothing starts yet.

        Args:
            ledger: what was not taken.
            bench: where images are, and finished objects go.
            destinations: (name, profile) pairs; nothing is decided for others.
            profiles: by name.
            backoff: between attempts at a study.
            clock: gives the present.
        """
        self._ledger = ledger
        self._bench = bench
        self._destinations = [name for name, _ in destinations]
        self._profiles = profiles
        self._setbacks = Setbacks(backoff or Backoff(), clock)

    def decide_pending(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Decide what is due, until `stop` says so.

        A study's are decided in their order: the stand-in of a later report names that of the earlier one.

        Returns:
            How many stand-ins are to be delivered.

        Raises:
            StorageError: the ledger cannot be read.
        """
        due = self._ledger.due(self._destinations, BATCH, but_of=(waiting := self._setbacks.waiting))
        self._setbacks.keep({*waiting, *(untaken.object.study_instance_uid for untaken in due)})
        made = 0
        for untaken in due:
            if stop():
                break
            if self._setbacks.is_due(untaken.object.study_instance_uid):
                made += self._attempt(untaken)
        return made

    def decide(self, untaken: Untaken) -> bool:
        """Decide what is sent instead of an object, and make it if it is a stand-in; whether it is.

        Raises:
            StaleAttemptError: another process decided meanwhile.
            TriageError: something that we can name went wrong; nothing is recorded, unless a commit's answer got lost.
            OSError: a source cannot be read.
        """
        profile = self._profiles.get(untaken.object.profile)
        form = form_of(untaken.object)
        if profile is None or form is None or profile.instead_of(form) is None:
            self._without(untaken, Instead.NOTHING)
            return False
        if isinstance(form, ReportForm):
            return self._replace_report(untaken, form, profile)
        return self._replace_image_object(untaken, form, profile)

    def _attempt(self, untaken: Untaken) -> bool:
        study = untaken.object.study_instance_uid
        try:
            made = self.decide(untaken)
        except StaleAttemptError:
            return False
        except Exception as error:  # noqa: BLE001 - the last line of defence: one odd source must not stop all reports
            self._setbacks.put_off(study, error, "no stand-in made, its decision stays due")
            return False
        self._setbacks.forget(study)
        return made

    def _replace_report(self, untaken: Untaken, form: ReportForm, profile: Profile) -> bool:
        following = profile.instead_of(form)
        assert isinstance(following, ReportForm)
        if self._used_again(untaken, following):
            return True
        revision, predictions, cited, known = self._ledger.revision_of(untaken)
        if revision.withdrawal is None and any(self._bench.is_gone(stored) for stored in predictions):
            self._without(untaken, Instead.NOTHING)
            return False
        headers = [self._bench.header_or(stored, known) for stored in predictions]
        with quiet_pydicom():
            built = build_report_stand_in(following, revision, predictions, headers, profile, cited=cited)
        self._record(untaken, built, following, profile)
        return True

    def _replace_image_object(self, untaken: Untaken, form: Form, profile: Profile) -> bool:
        stored = self._ledger.image_of(untaken)
        if self._bench.is_gone(stored):
            self._without(untaken, Instead.NOTHING)
            return False
        header = self._bench.header(stored)
        following = profile.instead_of(form, lambda next_form: can_be_of(header, next_form))
        if following is None or profile.has(following):
            self._without(untaken, Instead.NOTHING if following is None else Instead.PROFILE)
            return False
        if self._used_again(untaken, following):
            return True
        source = self._bench.source(stored, header, pictured=ObjectKind(following) in PICTURED)
        with quiet_pydicom():
            built = build_image_stand_in(following, stored, source, profile)
        self._record(untaken, built, following, profile)
        return True

    def _used_again(self, untaken: Untaken, form: Form) -> bool:
        used = self._ledger.use_again(untaken, SOP_CLASSES[form])
        if used:
            log.info("stand-in used again", form=form.value, **_context(untaken))
        return used

    def _without(self, untaken: Untaken, instead: Instead) -> None:
        self._ledger.record_without(untaken, instead)
        log.warning("nothing is made instead of an object", instead=instead.value, **_context(untaken))

    def _record(self, untaken: Untaken, built: BuiltObject, form: Form, profile: Profile) -> None:
        record = partial(self._ledger.record_stand_in, untaken)
        made = self._bench.recorded(built, profile.as_stand_in(form), record)
        log.info("stand-in made", made=form.value, stand_in_uid=made.sop_instance_uid, **_context(untaken))


def _context(untaken: Untaken) -> dict[str, str]:
    """What a log line may say of it: no patient data."""
    return {
        "destination": untaken.destination,
        "kind": untaken.object.kind.value,
        "sop_instance_uid": untaken.object.sop_instance_uid,
    }
