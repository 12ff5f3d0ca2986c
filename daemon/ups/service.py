"""Procedure steps as both faces, DIMSE and UPS-RS, offer them: each request answered with its DIMSE status."""

import threading
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cxr_triage.daemon.ups import statuses
from cxr_triage.daemon.ups.attributes import completed, creation_faults, tag_of
from cxr_triage.daemon.ups.catalogue import STEPS
from cxr_triage.daemon.ups.data_sets import as_json, exact_values, is_uid, query_of
from cxr_triage.daemon.ups.presentation import Listing, shown
from cxr_triage.daemon.ups.priorities import LEVEL_OF
from cxr_triage.daemon.ups.requests import assignments, cancel_requested, modified, read_study, state_changed
from cxr_triage.daemon.worklist.board import Boards
from cxr_triage.daemon.worklist.matching import IdentifierError, Query
from cxr_triage.daemon.worklist.negotiated import NOTHING, Agreed
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import ReadingList, StepLedger, StepSubscriptions
from cxr_triage.storage.ledger.procedure_steps import Rule
from cxr_triage.storage.list_records import ListVersion
from cxr_triage.storage.step_records import (
    FILTERED_GLOBAL_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    Ruling,
    Step,
    StepKey,
    StepState,
    value_of,
)

#: Steps that are read together.
_AT_ONCE: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a request came to."""

    #: DIMSE status, of those that `statuses` has for the operation.
    status: int
    #: What the operation gives back: of N-CREATE the SOP Instance UID; None: nothing.
    attributes: Dataset | None = None
    #: Which attribute, or why, for a person: no patient data.
    comment: str = ""

    @property
    def done(self) -> bool:
        """Whether what was asked for is so now: success or a warning (PS3.7 Annex C)."""
        return self.status in {statuses.SUCCESS, statuses.OPTIONAL_ATTRIBUTES_UNSUPPORTED} or self.status >> 12 == 0xB


class Found(NamedTuple):
    """One step that a query finds."""

    attributes: Dataset
    #: Whether it knows every key of the query.
    complete: bool


class ProcedureSteps:
    """The steps. Each method raises StorageError where the ledger could not be reached: then nothing has changed."""

    def __init__(
        self,
        database: Database,
        *,
        policy: Policy,
        receivers: Container[str],
        retrieve_ae_titles: Sequence[str] = (),
        clock: Clock = utc_now,
    ) -> None:
        """Serve them.

        Args:
            database: of the ledger.
            policy: what the site decided.
            receivers: AE titles that may be subscribed.
            retrieve_ae_titles: where images can be had, for the inputs of our own steps.
            clock: gives the present.
        """
        self._steps = StepLedger(database, clock=clock)
        self._subscriptions = StepSubscriptions(database, clock=clock)
        self._boards = Boards(ReadingList(database, clock=clock), policy)
        self._policy = policy
        self._receivers = receivers
        self._retrieve_ae_titles = retrieve_ae_titles
        self._clock = clock
        self._lock = threading.Lock()
        self._listing: Listing | None = None

    def create(self, uid: str | None, attributes: Dataset, *, caller: str) -> Answer:
        """Add a step (N-CREATE, PS3.4 CC.2.5); None: we give it a UID."""
        uid = uid or generate_uid(prefix=None)
        if not is_uid(uid):
            return Answer(status=statuses.INVALID_OBJECT_INSTANCE, comment="SOP Instance UID")
        if uid in {GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION}:
            return Answer(status=statuses.DUPLICATE_SOP_INSTANCE)
        given = as_json(attributes)
        if given is None:
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE)
        fault = next(creation_faults(given), None)
        if fault is not None:
            return Answer(status=fault.status, comment=fault.attribute)
        kept, added = completed(given)
        is_new = self._steps.create(
            uid,
            kept,
            about=read_study(kept),
            ordered=LEVEL_OF[value_of(kept, tag_of("ScheduledProcedureStepPriority"))],
            told=assignments(kept),
            policy=self._policy,
            actor=caller,
        )
        if not is_new:
            return Answer(status=statuses.DUPLICATE_SOP_INSTANCE)
        self.consider()
        made = Dataset()
        made.SOPInstanceUID = uid
        status = statuses.CREATED_WITH_MODIFICATIONS if added else statuses.SUCCESS
        return Answer(status=status, attributes=made, comment=", ".join(added))

    def get(self, uid: str, tags: Sequence[int] = ()) -> Answer:
        """Give a step's attributes with these tags; none named: all (N-GET, PS3.4 CC.2.7)."""
        step = self._steps.get(uid)
        if step is None:
            return Answer(status=statuses.NO_SUCH_STEP)
        whole = self._shown([step], self._current())[0]
        if not tags:
            return Answer(status=statuses.SUCCESS, attributes=whole)
        wanted = Dataset()
        for tag in tags:
            if tag in whole:
                wanted.add(whole[tag])
        wanted.SpecificCharacterSet = whole.SpecificCharacterSet
        unknown = ", ".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in tags if tag not in whole)
        status = statuses.OPTIONAL_ATTRIBUTES_UNSUPPORTED if unknown else statuses.SUCCESS
        return Answer(status=status, attributes=wanted, comment=unknown)

    def modify(self, uid: str, modifications: Dataset, transaction_uid: str | None, *, caller: str) -> Answer:
        """Set attributes of a step (N-SET, PS3.4 CC.2.6)."""
        given = as_json(modifications)
        if given is None:
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE)
        claim = transaction_uid or value_of(given, tag_of("TransactionUID"))
        given.pop(tag_of("TransactionUID"), None)
        if not given:
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE, comment="nothing is set")
        return self._change(uid, lambda step: modified(step, given, claim), caller)

    def change_state(self, uid: str, state: str, transaction_uid: str | None, *, caller: str) -> Answer:
        """Claim, complete or cancel a step (N-ACTION type 1, PS3.4 CC.2.1)."""
        if state not in set(StepState):
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE, comment="ProcedureStepState")
        wanted = StepState(state)
        if transaction_uid and not is_uid(transaction_uid):
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE, comment="TransactionUID")
        now = self._clock()
        return self._change(
            uid, lambda step: state_changed(step, wanted, transaction_uid, caller=caller, now=now), caller
        )

    def request_cancel(self, uid: str, request: Dataset, *, caller: str) -> Answer:
        """Ask that a step be cancelled (N-ACTION type 2, PS3.4 CC.2.2)."""
        given = as_json(request)
        if given is None:
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE)
        now, receivers = self._clock(), self._subscriptions.receivers(uid)
        return self._change(
            uid, lambda step: cancel_requested(step, given, caller=caller, receivers=receivers, now=now), caller
        )

    def subscribe(
        self, uid: str, receiving_ae: str, *, deletion_lock: bool, caller: str, filter_keys: Dataset | None = None
    ) -> Answer:
        """Tell a receiver of a step's events, or of all steps' (N-ACTION type 3, PS3.4 CC.2.3)."""
        if receiving_ae not in self._receivers:
            return Answer(status=statuses.UNKNOWN_RECEIVER, comment=receiving_ae)
        if uid not in {GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION}:
            known = self._subscriptions.subscribe(uid, receiving_ae, deletion_lock=deletion_lock, actor=caller)
            return Answer(status=statuses.SUCCESS if known else statuses.NO_SUCH_STEP)
        filtered = uid == FILTERED_GLOBAL_SUBSCRIPTION
        wanted = as_json(filter_keys or Dataset()) if filtered else {}
        try:
            query = query_of(wanted or {})
        except IdentifierError as error:
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE, comment=str(error))
        if filtered and not wanted:
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE, comment="matching keys")
        self._subscriptions.subscribe_to_all(
            receiving_ae, deletion_lock=deletion_lock, keys=wanted if filtered else None, actor=caller
        )
        here = [step.sop_instance_uid for step, _ in self._matching(Dataset(), query, self._current())]
        self._subscriptions.include(receiving_ae, here, deletion_lock=deletion_lock)
        return Answer(status=statuses.SUCCESS)

    def unsubscribe(self, uid: str, receiving_ae: str, *, caller: str) -> Answer:
        """Tell a receiver no more (N-ACTION type 4, PS3.4 CC.2.3)."""
        if receiving_ae not in self._receivers:
            return Answer(status=statuses.UNKNOWN_RECEIVER, comment=receiving_ae)
        if uid not in {GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION} and self._steps.get(uid) is None:
            return Answer(status=statuses.NO_SUCH_STEP)
        self._subscriptions.unsubscribe(uid, receiving_ae, actor=caller)
        return Answer(status=statuses.SUCCESS)

    def suspend_global(self, uid: str, receiving_ae: str, *, caller: str) -> Answer:
        """Tell a receiver of no further steps (N-ACTION type 5, PS3.4 CC.2.3)."""
        if receiving_ae not in self._receivers:
            return Answer(status=statuses.UNKNOWN_RECEIVER, comment=receiving_ae)
        if uid not in {GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION}:
            known = self._steps.get(uid) is not None
            return Answer(status=statuses.ACTION_NOT_APPROPRIATE if known else statuses.NO_SUCH_STEP)
        self._subscriptions.suspend(receiving_ae, actor=caller)
        return Answer(status=statuses.SUCCESS)

    def find(self, identifier: Dataset) -> Iterator[Found]:
        """Give the steps that match (C-FIND, PS3.4 CC.2.8): of listed studies in the list's order, then the others.

        Raises:
            IdentifierError: the query breaks a rule.
        """
        return self.find_in_list(identifier)[1]

    def find_in_list(self, identifier: Dataset, agreed: Agreed = NOTHING) -> tuple[ListVersion, Iterator[Found]]:
        """Give what `find` gives, with more kinds of matching if asked, and the version of the list that it is of.

        Raises:
            IdentifierError: the query breaks a rule.
        """
        query, listing = Query(identifier, STEPS, agreed=agreed), self._current()
        found = self._matching(identifier, query, listing)
        return listing.version, (self._found(query, whole) for _, whole in found)

    @staticmethod
    def _found(query: Query[Dataset], whole: Dataset) -> Found:
        answer, complete = query.answer(whole)
        answer.SpecificCharacterSet = whole.SpecificCharacterSet
        return Found(answer, complete)

    def consider(self) -> None:
        """Try the filters of subscribers on the steps that are new."""
        while steps := self._subscriptions.unconsidered():
            # Read after the steps: whoever subscribes later is told of these by the subscription itself.
            filters = self._subscriptions.filters()
            if not filters:
                self._subscriptions.record_unfiltered([step.sop_instance_uid for step in steps])
                return
            wanted = {receiver: (query_of(each), lock) for receiver, (each, lock) in filters.items()}
            for step, whole in zip(steps, self._shown(steps, self._current()), strict=True):
                whose = {receiver: lock for receiver, (query, lock) in wanted.items() if query.matches(whole)}
                self._subscriptions.record_considered(step.sop_instance_uid, whose)

    def _change(self, uid: str, rule: Rule, caller: str) -> Answer:
        busy = Ruling(status=statuses.ALREADY_IN_PROGRESS, comment="another reader has the study")
        ruling = self._steps.change(uid, rule, busy=busy, policy=self._policy, actor=caller)
        self.consider()
        return Answer(status=ruling.status, comment=ruling.comment)

    def _matching(self, identifier: Dataset, query: Query[Dataset], listing: Listing) -> Iterator[tuple[Step, Dataset]]:
        states = [StepState(each) for each in exact_values(identifier, "ProcedureStepState") if each in set(StepState)]
        last = len(listing.places) + 1

        def place(key: StepKey) -> int:
            on_list = None if key.state.is_final else listing.places.get(key.study_instance_uid or "")
            return on_list.rank if on_list else last

        ordered = sorted(self._steps.find(states, exact_values(identifier, "SOPInstanceUID")), key=place)
        for start in range(0, len(ordered), _AT_ONCE):
            some = self._steps.steps(ordered[start : start + _AT_ONCE])
            for step, whole in zip(some, self._shown(some, listing), strict=True):
                if query.matches(whole):
                    yield step, whole

    def _shown(self, steps: Sequence[Step], listing: Listing) -> list[Dataset]:
        studies = self._steps.studies({step.study_instance_uid for step in steps if step.study_instance_uid})
        return [
            shown(
                step,
                studies.get(step.study_instance_uid or ""),
                listing,
                retrieve_ae_titles=self._retrieve_ae_titles,
            )
            for step in steps
        ]

    def _current(self) -> Listing:
        """The list as it is now."""
        board = self._boards.now()
        with self._lock:
            if self._listing is None or self._listing.version != board.version:
                places = {each.study.study_instance_uid: each for each in board.places}
                self._listing = Listing(version=board.version, changed_at=board.since, places=places)
            return self._listing
