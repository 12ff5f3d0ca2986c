"""Every error that this product raises on purpose.

The class says whose matter it is: that of whoever configures, of the sender, of a destination, of the machine. The
message says what was wrong here and what to do about it, without patient data.
"""

import errno
from typing import Final

#: errno(3) of a machine that is full, out of something or broken: not the fault of the file in hand, and it may pass.
#: EACCES and the like too: a folder that was restored or mounted wrongly is put right, and its files are fine.
MACHINE_FAULTS: Final = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
        *(errno.EFBIG, errno.EAGAIN, errno.EACCES, errno.EPERM, errno.ESTALE, errno.ETIMEDOUT),
    }
)


def is_machine_fault(error: BaseException | None) -> bool:
    """Whether the machine is to blame, and trying again later may do."""
    return isinstance(error, OSError) and error.errno in MACHINE_FAULTS


class TriageError(Exception):
    """Something went wrong that this product can name."""


class ConfigurationError(TriageError):
    """The configuration cannot be used: a person must change it."""


class BundleError(TriageError):
    """The weights bundle is missing, damaged or not one that this version reads."""


class UnreadableImageError(TriageError):
    """The file is not a DICOM image whose pixels can be read."""


class StorageError(TriageError):
    """The database or a storage folder refused the operation."""


class UnavailableError(StorageError):
    """The database or a storage folder cannot be used now: the machine's matter, which may pass by itself."""


class StaleAttemptError(StorageError):
    """The job was taken over by a later attempt: nothing that this attempt did is recorded."""


class DeliveryError(TriageError):
    """A destination did not accept an object."""


class UnreachableError(DeliveryError):
    """A destination cannot be reached, or gives no answer: this may pass by itself."""


class OutOfResourcesError(UnreachableError):
    """A destination answers that it cannot store now: this may pass by itself."""


class RefusedError(DeliveryError):
    """A destination answered that it does not take the object."""


class NotTakenError(RefusedError):
    """A destination does not support the object's SOP Class, or no transfer syntax that we can send it in."""


class DeclinedError(RefusedError):
    """A destination does not accept the object's SOP Class now, and does not say that it does not support it."""


class OrderRefusedError(TriageError):
    """A message about an order is not taken: its sender must change it, or a person how it comes here."""


class ResultError(TriageError):
    """An SR or SEG cannot be made from this result."""
