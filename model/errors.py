"""Every error that this product raises on purpose.

The class says whose matter it is: that of whoever configures, of the sender, of a destination, of the machine. The
message says what was wrong here and what to do about it, without patient data.
"""


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


class ResultError(TriageError):
    """An SR or SEG cannot be made from this result."""
