"""The state machine of PS3.4 Table CC.1.1-2, as the table that it is."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from cxr_triage.daemon.ups import statuses
from cxr_triage.storage.step_records import StepState


class Asked(StrEnum):
    """A row of the table: what is asked for, with or without the correct Transaction UID."""

    CREATE = "N-CREATE"
    BEGIN = "change to IN PROGRESS"
    BEGIN_WRONG_UID = "change to IN PROGRESS without the correct Transaction UID"
    SCHEDULE = "change to SCHEDULED"
    COMPLETE = "change to COMPLETED"
    COMPLETE_WRONG_UID = "change to COMPLETED without the correct Transaction UID"
    REQUEST_CANCEL = "request to cancel"
    CANCEL = "change to CANCELED"
    CANCEL_WRONG_UID = "change to CANCELED without the correct Transaction UID"


class Cell(NamedTuple):
    """What a request comes to in one state."""

    #: DIMSE status; where there is a new state, that of a step that may have it.
    status: int
    #: None: the step stays as it is.
    state: StepState | None = None


_SCHEDULED, _IN_PROGRESS, _COMPLETED, _CANCELED = StepState
_Row = Mapping[StepState | None, Cell]


def _row(missing: Cell | int, scheduled: Cell | int, in_progress: Cell | int, completed: int, canceled: int) -> _Row:
    """Write one row of the table, by its columns."""
    cells = (missing, scheduled, in_progress, completed, canceled)
    return {
        state: cell if isinstance(cell, Cell) else Cell(cell)
        for state, cell in zip((None, *StepState), cells, strict=True)
    }


_WRONG_UID: Final = _row(
    statuses.NO_SUCH_STEP,
    statuses.WRONG_TRANSACTION_UID,
    statuses.WRONG_TRANSACTION_UID,
    statuses.WRONG_TRANSACTION_UID,
    statuses.WRONG_TRANSACTION_UID,
)
#: PS3.4 Table CC.1.1-2. Columns: no such step, SCHEDULED, IN PROGRESS, COMPLETED, CANCELED.
TRANSITIONS: Final[Mapping[Asked, _Row]] = {
    Asked.CREATE: _row(
        Cell(statuses.SUCCESS, _SCHEDULED),
        statuses.DUPLICATE_SOP_INSTANCE,
        statuses.DUPLICATE_SOP_INSTANCE,
        statuses.DUPLICATE_SOP_INSTANCE,
        statuses.DUPLICATE_SOP_INSTANCE,
    ),
    Asked.BEGIN: _row(
        statuses.NO_SUCH_STEP,
        Cell(statuses.SUCCESS, _IN_PROGRESS),
        statuses.ALREADY_IN_PROGRESS,
        statuses.NO_LONGER_UPDATED,
        statuses.NO_LONGER_UPDATED,
    ),
    Asked.BEGIN_WRONG_UID: _WRONG_UID,
    Asked.SCHEDULE: _row(
        statuses.NO_SUCH_STEP,
        statuses.ONLY_CREATE_SCHEDULES,
        statuses.ONLY_CREATE_SCHEDULES,
        statuses.ONLY_CREATE_SCHEDULES,
        statuses.ONLY_CREATE_SCHEDULES,
    ),
    Asked.COMPLETE: _row(
        statuses.NO_SUCH_STEP,
        statuses.NOT_IN_PROGRESS,
        Cell(statuses.SUCCESS, _COMPLETED),
        statuses.ALREADY_COMPLETED,
        statuses.NO_LONGER_UPDATED,
    ),
    Asked.COMPLETE_WRONG_UID: _WRONG_UID,
    Asked.REQUEST_CANCEL: _row(
        statuses.NO_SUCH_STEP,
        Cell(statuses.SUCCESS, _CANCELED),
        statuses.SUCCESS,
        statuses.COMPLETED_ALREADY,
        statuses.ALREADY_CANCELED,
    ),
    Asked.CANCEL: _row(
        statuses.NO_SUCH_STEP,
        statuses.NOT_IN_PROGRESS,
        Cell(statuses.SUCCESS, _CANCELED),
        statuses.NO_LONGER_UPDATED,
        statuses.ALREADY_CANCELED,
    ),
    Asked.CANCEL_WRONG_UID: _WRONG_UID,
}

_ROWS: Final = {
    _IN_PROGRESS: (Asked.BEGIN, Asked.BEGIN_WRONG_UID),
    _COMPLETED: (Asked.COMPLETE, Asked.COMPLETE_WRONG_UID),
    _CANCELED: (Asked.CANCEL, Asked.CANCEL_WRONG_UID),
    _SCHEDULED: (Asked.SCHEDULE, Asked.SCHEDULE),
}


def asked(wanted: StepState, *, given: str | None, known: str | None) -> Asked:
    """Give the row of a change of state.

    Args:
        wanted: the new state.
        given: Transaction UID of the request; None or empty: it has none.
        known: that of the performer; None: nobody has claimed the step, and every UID is the correct one.
    """
    with_correct, without = _ROWS[wanted]
    return with_correct if given and known in {None, given} else without


def update_status(state: StepState | None, *, given: str | None, known: str | None) -> int:
    """Say whether a step may be set (PS3.4 CC.2.6.3): by anybody before it is claimed, then by its performer."""
    if state is None:
        return statuses.NO_SUCH_STEP
    if state.is_final:
        return statuses.NO_LONGER_UPDATED
    if state is StepState.SCHEDULED:
        return statuses.NOT_IN_PROGRESS if given else statuses.SUCCESS
    return statuses.SUCCESS if given and given == known else statuses.WRONG_TRANSACTION_UID
