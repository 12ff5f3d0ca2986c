"""What objects are made from and where they go: sources out of the inbox, finished files into the outbox."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from cxr_triage.daemon.results.finishing import encode
from cxr_triage.daemon.results.objects import BuiltObject, Source
from cxr_triage.daemon.results.patient import COPIED, LOSSY, header_known
from cxr_triage.daemon.results.picture import Picture
from cxr_triage.daemon.results.presentation_state import GRAYSCALE
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.model.errors import ResultError, StaleAttemptError
from cxr_triage.model.header import open_dataset
from cxr_triage.storage.image_records import InstanceHeader, StoredPrediction
from cxr_triage.storage.inbox import DurableFolder
from cxr_triage.storage.result_records import ResultObject

#: What the objects need of a source's header, besides what they copy.
SOURCE_KEYWORDS: Final = (
    *("Rows", "Columns", "PatientOrientation", "PixelSpacing", "ImagerPixelSpacing"),
    *LOSSY,
    *("PixelAspectRatio", "PresentationIntentType", "SOPClassUID"),
    *GRAYSCALE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Workbench:
    """Both folders, and how pixels are read."""

    inbox: DurableFolder
    outbox: DurableFolder
    #: Reads the pixels of an image, for objects that draw on them.
    read_picture: Callable[[Path], Picture]

    def is_gone(self, stored: StoredPrediction) -> bool:
        """Whether an image has left the inbox."""
        return self.inbox.is_gone(stored.path)

    def header(self, stored: StoredPrediction) -> Dataset:
        """Read the header of an image.

        Raises:
            OSError: it cannot be read.
            TriageError: it is not what it was.
        """
        return open_dataset(self.inbox.absolute(stored.path), only=[*COPIED, *SOURCE_KEYWORDS])

    def header_or(self, stored: StoredPrediction, known: InstanceHeader) -> Dataset:
        """Read the header of an image, or make one of what the ledger knows of it, where its file is gone."""
        return header_known(known) if self.is_gone(stored) else self.header(stored)

    def source(self, stored: StoredPrediction, header: Dataset, *, pictured: bool) -> Source:
        """Give an image as results are made of it, with its pixels where anything is to be drawn on them."""
        picture = self.read_picture(self.inbox.absolute(stored.path)) if pictured else None
        return Source(header=header, picture=picture)

    @contextmanager
    def storing(self, built: BuiltObject, profile: Profile) -> Iterator[ResultObject]:
        """Store an object; the block is for recording it (see `DurableFolder.storing`)."""
        dataset = built.dataset
        uid = str(dataset.SOPInstanceUID)
        encoded = encode(dataset)
        with self.outbox.storing(encoded.dataset, sop_instance_uid=uid, meta=encoded.meta) as file:
            yield ResultObject(
                kind=built.kind,
                sop_instance_uid=uid,
                sop_class_uid=str(dataset.SOPClassUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                study_instance_uid=str(dataset.StudyInstanceUID),
                source_sop_instance_uid=built.source_sop_instance_uid,
                profile=profile.site_name,
                path=file.path,
                sha256=file.sha256,
                stand_in=profile.site_name != profile.name,
            )

    def recorded(self, built: BuiltObject, profile: Profile, record: Callable[[ResultObject], bool]) -> ResultObject:
        """Store an object, and then record it: what the ledger knows is on disk, and what it does not take is removed.

        Args:
            built: what to store.
            profile: whose it is.
            record: tells the ledger; whether that owns the file now.

        Raises:
            StaleAttemptError, ResultError: as `record`, nothing stays.
            TriageError: as `storing` and `record`; should an answer to a commit get lost, the file stays.
        """
        with self.storing(built, profile) as made:
            try:
                taken = record(made)
            except (ResultError, StaleAttemptError):
                self.discard([made])
                raise
            if not taken:
                self.discard([made])
        return made

    def discard(self, stored: Iterable[ResultObject]) -> None:
        """Remove files that the ledger did not take."""
        for result in stored:
            self.outbox.discard(result.path)
