"""Files that a crash left in the inbox between their name and their row: whole and durable, so the ledger takes them.

Their sender was not answered, and may or may not send them again; or it was, and a backup of the database that is older
than the files was restored.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_file_meta_info

from cxr_triage.daemon.logs import get_logger
from cxr_triage.model.errors import UnreadableImageError
from cxr_triage.model.header import GROUP_LENGTH_ELEMENT_BYTES, PREAMBLE_BYTES, quiet_pydicom
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.image_records import Receipt, ReceivedInstance
from cxr_triage.storage.inbox import Inbox
from cxr_triage.storage.ledger import Housekeeping, Intake

log = get_logger(__name__)


class Adoption:
    """Takes files of the inbox into the ledger as if they had just been received."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        intake: Intake,
        housekeeping: Housekeeping,
        on_adopted: Callable[[], None],
        clock: Clock = utc_now,
    ) -> None:
        self._inbox = inbox
        self._intake = intake
        self._housekeeping = housekeeping
        self._on_adopted = on_adopted
        self._clock = clock

    def adopt(self, path: Path) -> None:
        """Give a file its row. What the ledger has already is removed; what is not as it was received is set aside.

        Args:
            path: relative to the inbox; no living process is about to record it.

        Raises:
            StorageError: the ledger or the inbox refused: the file is where it was.
            OSError: it cannot be read.
        """
        try:
            instance = read_received(self._inbox, path, self._clock)
        except UnreadableImageError as error:
            log.warning("file in the inbox set aside", reason=error, path=path)
            self._inbox.set_aside(path)
            return
        lost = self._inbox.lost(self._intake.known(instance.sop_instance_uid, instance.sha256))
        receipt = self._intake.record_received(instance, lost=lost)
        if receipt is not Receipt.SAME_BYTES:
            log.warning("image without a row adopted", receipt=receipt, **instance.log_context())
            self._on_adopted()
        elif self._housekeeping.unowned("inbox", [path.as_posix()]):
            self._inbox.discard(path)


def read_received(inbox: Inbox, path: Path, clock: Clock) -> ReceivedInstance:
    """Read back what the receiver wrote in front of a data set.

    Raises:
        UnreadableImageError: the file is not as the receiver wrote it.
        OSError: it cannot be read.
    """
    file = inbox.absolute(path)
    meta = _meta(file)
    with file.open("rb") as opened:
        opened.seek(PREAMBLE_BYTES + GROUP_LENGTH_ELEMENT_BYTES + int(meta.FileMetaInformationGroupLength))
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if not inbox.is_named_after(path, sha256):
        raise UnreadableImageError("The file does not hold the bytes that it was named after.")
    return ReceivedInstance(
        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        calling_ae_title=str(meta.get("SendingApplicationEntityTitle", "")),
        called_ae_title=str(meta.get("ReceivingApplicationEntityTitle", "")),
        path=path,
        sha256=sha256,
        size_bytes=file.stat().st_size,
        received_at=clock(),
    )


def _meta(file: Path) -> FileMetaDataset:
    try:
        with quiet_pydicom():
            meta = read_file_meta_info(file)
        for keyword in (
            *("FileMetaInformationGroupLength", "MediaStorageSOPInstanceUID"),
            *("MediaStorageSOPClassUID", "TransferSyntaxUID"),
        ):
            meta[keyword]
    except OSError:
        raise
    # A disk may give back anything, and pydicom fails at it in as many ways.
    except Exception as error:
        raise UnreadableImageError("The file has no file meta information as the receiver writes it.") from error
    return meta
