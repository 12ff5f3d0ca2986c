"""Answers queries from the reading list as it is at that instant, one entry after the other."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from pydicom.dataset import Dataset

from cxr_triage.daemon.worklist.board import Board
from cxr_triage.daemon.worklist.c_find import PENDING, PENDING_WITHOUT_SOME_KEYS
from cxr_triage.daemon.worklist.character_sets import CharacterSets
from cxr_triage.daemon.worklist.entries import worklist_entries
from cxr_triage.daemon.worklist.matching import IdentifierError, Query, keys
from cxr_triage.daemon.worklist.negotiated import NOTHING, Agreed
from cxr_triage.daemon.worklist.study_entries import level_of, things_at

Thing = TypeVar("Thing")

Answer = tuple[int, Dataset]


class Finder:
    """Gives what matches, the study to be read first at the front.

    C-FIND promises no order, and a station may sort as it likes; one that shows answers as they come shows ours. An
    entry becomes a data set when it is asked for, so that a hundred thousand of them never are at the same time.
    """

    def __init__(self, board: Callable[[], Board]) -> None:
        self._board = board

    def worklist(self, identifier: Dataset, *, calling_ae_title: str) -> Iterator[Answer]:
        """Give the entries of the modality worklist that are asked for.

        Raises:
            IdentifierError: the query breaks a rule.
            StorageError: the ledger could not be reached.
        """
        if not keys(identifier):
            # Also where no data set came at all: an answer to it would have no element either.
            raise IdentifierError(None, "the identifier has no key")
        board = self._board()
        query = Query(identifier, worklist_entries(board, station_ae_title=calling_ae_title))
        return _answers(query, board.places, CharacterSets(identifier))

    def studies(self, identifier: Dataset, *, calling_ae_title: str, agreed: Agreed = NOTHING) -> Iterator[Answer]:
        """Give the listed studies, or what is in one, that are asked for.

        Raises:
            IdentifierError: the query breaks a rule.
            StorageError: the ledger could not be reached.
        """
        del calling_ae_title
        level = level_of(identifier)
        things, attributes = things_at(level, self._board(), identifier)
        return _answers(Query[Any](identifier, attributes, agreed=agreed), things, CharacterSets(identifier))


def _answers(query: Query[Thing], things: Iterable[Thing], character_sets: CharacterSets) -> Iterator[Answer]:
    for thing in things:
        if query.matches(thing):
            answer, complete = query.answer(thing)
            character_sets.name_in(answer)
            yield PENDING if complete else PENDING_WITHOUT_SOME_KEYS, answer
