"""Reading lists to ask for, and a port that answers from one."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

from pydicom import Dataset

from builders import MORNING, instance_header
from cxr_triage.daemon.dicom_server import DicomServer, Limits
from cxr_triage.daemon.worklist.board import Board
from cxr_triage.daemon.worklist.entries import worklist_entries
from cxr_triage.daemon.worklist.finding import Finder
from cxr_triage.daemon.worklist.matching import whole
from cxr_triage.daemon.worklist.mwl import worklist_server
from cxr_triage.model.findings import Finding
from cxr_triage.model.priority import Level, Policy, prioritise, rank
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.list_records import ListedImage, ListedStudy, ListVersion
from peers import serving

POLICY = Policy()
NOW = MORNING + timedelta(hours=1)
VERSION = ListVersion(changes=7, overdue=1)
DIGITAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"


def listed_study(
    uid: str, *found: Finding, ordered: Level = Level.ROUTINE, minutes: int = 0, **header: str
) -> ListedStudy:
    """Put a study on the list that arrived so many minutes after the start of the day."""
    arrived_at = MORNING + timedelta(minutes=minutes)
    return ListedStudy(
        study_instance_uid=uid,
        ordered=ordered,
        arrived_at=arrived_at,
        priority=prioritise(found, ordered=ordered, arrived_at=arrived_at, policy=POLICY),
        priority_without_findings=prioritise([], ordered=ordered, arrived_at=arrived_at, policy=POLICY),
        images={InstanceState.SCORED: 1},
        header=instance_header(study_instance_uid=uid, **header),
    )


def board_of(
    studies: Sequence[ListedStudy],
    *,
    version: ListVersion = VERSION,
    images: Mapping[str, Sequence[ListedImage]] | None = None,
) -> Board:
    """Give the list of these studies; each has one image unless said otherwise."""
    one_each = {
        uid: [ListedImage(f"{uid}.1", "DX", DIGITAL_X_RAY, f"{uid}.1.1")]
        for uid in (study.study_instance_uid for study in studies)
    }
    return Board(
        version=version,
        since=NOW,
        places=rank(studies, now=NOW, policy=POLICY),
        read_images=lambda: one_each if images is None else images,
    )


def known(study: ListedStudy, station: str = "READER") -> Dataset:
    """Give the entry of a study that is alone on the list."""
    board = board_of([study])
    return whole(worklist_entries(board, station_ae_title=station), board.places[0])


@contextmanager
def listing(
    studies: Callable[[], Sequence[ListedStudy]],
    *,
    allowed_ae_titles: tuple[str, ...] = (),
    study_root: bool = True,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Iterator[int]:
    """Serve a reading list; gives the port."""
    with finding(lambda: board_of(studies()), allowed_ae_titles, study_root=study_root, limits=limits) as port:
        yield port


@contextmanager
def finding(
    board: Callable[[], Board],
    allowed_ae_titles: tuple[str, ...] = (),
    *,
    study_root: bool = True,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Iterator[int]:
    """Serve a board; gives the port."""

    def build(listener: socket.socket) -> DicomServer:
        return worklist_server(
            Finder(board),
            listener=listener,
            ae_title="CXRLIST",
            limits=limits,
            allowed_ae_titles=allowed_ae_titles,
            study_root=study_root,
        )

    with serving(build) as port:
        yield port
