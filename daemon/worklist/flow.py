"""Keeps pace with who reads the answers of a C-FIND.

pynetdicom takes answers as fast as they are made and keeps them until they are sent; and it reads nothing, no C-CANCEL
either, as long as any of them is left to be sent.
"""

import select
import time
from typing import Final

from pynetdicom.association import Association

#: Parts of answers that may wait to be sent: two for each.
WAITING_PARTS: Final = 32
#: As often as pynetdicom's own thread looks.
_LOOK_SECONDS: Final = 0.001


def keep_pace(association: Association) -> None:
    """Wait until little is left to be sent and all that the peer sent is read, or the association has ended."""
    count_as_heard(association)
    if association.dul.to_provider_queue.qsize() < WAITING_PARTS and not _has_more(association):
        return
    while not association.acse.is_aborted() and association.dul.is_alive() and _is_behind(association):
        time.sleep(_LOOK_SECONDS)


def count_as_heard(association: Association) -> None:
    """Let the limit of the peer's silence begin anew, which by itself only what it sends does."""
    association.dul._idle_timer.restart()  # noqa: SLF001 - there is no other way to it


def _is_behind(association: Association) -> bool:
    return not association.dul.to_provider_queue.empty() or _has_more(association)


def _has_more(association: Association) -> bool:
    """Whether the peer sent something that is not read yet."""
    transport = association.dul.socket
    if transport is None or transport.socket is None:
        return False
    try:
        return bool(select.select([transport.socket], [], [], 0)[0])
    except (OSError, ValueError):  # it was closed meanwhile
        return False
