"""How objects get to a destination, whatever the protocol: what the couriers ask for."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cxr_triage.daemon.dicom_client import DicomTransport, Part10File, peer
from cxr_triage.daemon.setting_peers import Destination
from cxr_triage.daemon.settings import Settings


class Session(Protocol):
    """An exchange with a destination in which several objects may be stored."""

    @property
    def is_open(self) -> bool:
        """Whether another object may be offered in it."""

    def store(self, file: Part10File) -> int:
        """Send a file, and wait for the answer.

        Returns:
            The status or warning reason under which it was stored (PS3.4 Table B.2-1); 0: without a warning.

        Raises:
            UnreachableError: no answer, or (OutOfResourcesError) one that may be another one later.
            RefusedError: the destination does not take it: not its class (NotTakenError, DeclinedError), or not this
                one.
            ResultError: the file cannot be read.
        """


class Transport(Protocol):
    """One destination."""

    def verify(self) -> None:
        """Find out whether it is there.

        Raises:
            UnreachableError: it is not, and why.
            RefusedError: it is, but does not answer this question.
        """

    def session(self, files: Sequence[Part10File]) -> AbstractContextManager[Session]:
        """Begin an exchange for these files.

        Raises:
            UnreachableError: there is none, and why.
        """


def transport_of(destination: Destination, settings: Settings) -> Transport:
    """Give the way to a destination of the configuration."""
    if destination.stow_url is None:
        return DicomTransport(peer(destination, settings))
    from cxr_triage.daemon.dicom_web import StowTransport  # noqa: PLC0415 - few sites need it

    deliver, files = settings.deliver, settings.stow_files(destination)
    return StowTransport(
        url=destination.stow_url,
        token_file=files["stow_token_file"],
        password_file=files["stow_password_file"],
        ca_file=files["stow_ca_file"],
        connect_timeout_seconds=deliver.acse_timeout_seconds,
        answer_timeout_seconds=deliver.dimse_timeout_seconds,
        network_timeout_seconds=deliver.network_timeout_seconds,
    )
