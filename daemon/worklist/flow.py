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
    if association.dul.to_provider_queue.qsize() < WAITING_PARTS and not _has_more(association):
        return
    while association.is_established and (not association.dul.to_provider_queue.empty() or _has_more(association)):
        time.sleep(_LOOK_SECONDS)


def _has_more(association: Association) -> bool:
    """Whether the peer sent something that is not read yet."""
    transport = association.dul.socket
    if transport is None or transport.socket is None:
        return False
    try:
        return bool(select.select([transport.socket], [], [], 0)[0])
    except (OSError, ValueError):  # it was closed meanwhile
        return False
