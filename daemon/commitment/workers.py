"""Who does it in the deliver role: a thread per destination that is asked, and per modality that is told."""

from datetime import timedelta

from cxr_triage.daemon.commitment.asking import Asker, Pace
from cxr_triage.daemon.commitment.event_reports import Insistence
from cxr_triage.daemon.commitment.reporting import Reporter
from cxr_triage.daemon.commitment.reports import Persistence
from cxr_triage.daemon.dicom_client import peer
from cxr_triage.daemon.setting_peers import Destination
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.commitment_records import Subject
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Commitments, ModalityCommitments
from cxr_triage.storage.service_clock import ServiceClock


def commitment_workers(settings: Settings, database: Database, owner_id: str) -> list[Asker | Reporter]:
    """Make them as the settings ask."""
    return [*_askers(settings, database, owner_id), *_reporters(settings, database, owner_id)]


def _askers(settings: Settings, database: Database, owner_id: str) -> list[Asker]:
    clock = ServiceClock.of(settings.run_folder)
    commitments = Commitments(database, lease=timedelta(seconds=settings.deliver.lease_seconds), clock=clock)
    return [
        Asker(
            destination=destination.name,
            peer=peer(destination, settings),
            commitments=commitments,
            owner_id=owner_id,
            pace=Pace.of(settings.deliver),
            subjects=_subjects(destination, settings),
            clock=clock,
        )
        for destination in settings.destinations
        if destination.name in settings.asked_for_commitment
    ]


def _subjects(destination: Destination, settings: Settings) -> set[Subject]:
    """What a destination is asked for."""
    for_modalities = settings.dicom.commitment and destination.name == settings.dicom.commitment_destination
    wanted = {Subject.RESULTS: destination.commitment, Subject.IMAGES: for_modalities}
    return {subject for subject, is_wanted in wanted.items() if is_wanted}


def _reporters(settings: Settings, database: Database, owner_id: str) -> list[Reporter]:
    if not settings.dicom.commitment:
        return []
    clock = ServiceClock.of(settings.run_folder)
    requests = ModalityCommitments(database, lease=timedelta(seconds=settings.deliver.lease_seconds), clock=clock)
    insistence = Insistence(
        poll=timedelta(seconds=settings.deliver.poll_seconds),
        persistence=Persistence.of(settings.deliver),
        give_up=timedelta(hours=settings.dicom.commitment_report_hours),
    )
    return [
        Reporter(
            modality=modality.ae_title,
            peer=peer(modality, settings),
            requests=requests,
            owner_id=owner_id,
            insistence=insistence,
            clock=clock,
        )
        for modality in settings.modality
    ]
