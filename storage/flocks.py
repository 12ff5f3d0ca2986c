"""Locks on files that end with the process that holds them, whatever ends it: flock(2)."""

import fcntl
from typing import BinaryIO


def try_lock(file: int | BinaryIO, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; False: others have it. Closing the file, in this process, gives it up.

    Args:
        file: or its descriptor.
        shared: with others that hold it shared, so that two who only look do not take each other for the holder.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
