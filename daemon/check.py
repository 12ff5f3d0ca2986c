"""`cxr-triage check`: everything that can be found wrong before an image is lost to it, each with what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cxr_triage.daemon.commitment.asking import verify_offer
from cxr_triage.daemon.dicom_client import peer
from cxr_triage.daemon.emission import require_fonts
from cxr_triage.daemon.orders.asking import ris, verify_ris
from cxr_triage.daemon.service import PORTS, enabled_roles, presence
from cxr_triage.daemon.setting_peers import Destination
from cxr_triage.daemon.settings import Settings, require_writable
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.transport import transport_of
from cxr_triage.model.bundle import BUNDLED
from cxr_triage.model.bundle import verify as verify_bundle
from cxr_triage.model.errors import TriageError
from cxr_triage.storage.database import open_database
from cxr_triage.storage.migrate import is_new, require_current_schema

#: Devices for which torch need not be asked: loading it takes seconds.
ALWAYS_THERE: Final = ("auto", "cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    ok: bool
    #: What was found; where it is wrong, what to do.
    message: str


def check(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one after the other; nothing is changed but for missing folders, which are made."""
    looks = [(key, partial(_folder, key, folder)) for key, folder in settings.folders().items()]
    looks.append(("database", partial(_database, settings)))
    looks.append(("weights", partial(_weights, settings.bundle_folder, settings.model.sensitivity)))
    if any(profile.font for profile in settings.profiles.values()):
        looks.append(("fonts", partial(_fonts, settings)))
    if settings.model.device not in ALWAYS_THERE:
        looks.append(("device", partial(_device, settings.model.device)))
    looks += [
        (f"port {PORTS[role]}", partial(_port, settings, role)) for role in enabled_roles(settings) if role in PORTS
    ]
    looks += [
        (f"destination {destination.name}", partial(_destination, destination, settings))
        for destination in settings.destinations
    ]
    if settings.ris.host is not None:
        looks.append(("RIS", partial(_ris, settings)))
    for subject, look in looks:
        yield _finding(subject, look)


def _finding(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject=subject, ok=True, message=look())
    except TriageError as error:
        return Finding(subject=subject, ok=False, message=str(error))


def _folder(key: str, folder: Path) -> str:
    require_writable(key, folder)
    return f"{folder} can be written"


def _database(settings: Settings) -> str:
    database = open_database(settings.database_url)
    try:
        if is_new(database):
            return f"{settings.printable_database} is empty: `cxr-triage serve` or `cxr-triage migrate` creates it"
        require_current_schema(database)
    finally:
        database.close()
    return f"{settings.printable_database} answers and has this version's schema"


def _weights(bundle: Path | None, sensitivity: float | None) -> str:
    card = verify_bundle(bundle)
    chosen = card.require(sensitivity)
    unfit = ", ".join(sorted(card.not_for_triage)) or "none"
    return (
        f"{bundle or BUNDLED}: {card.name} {card.version}, SHA-256 as on its card; sensitivity {chosen:g}; "
        f"not for triage: {unfit}"
    )


def _fonts(settings: Settings) -> str:
    require_fonts(settings.profiles.values())
    return "the fonts of the emission profiles can be used"


def _device(name: str) -> str:
    from cxr_triage.model.devices import choose_device  # noqa: PLC0415 - torch takes seconds to load

    return f"{choose_device(name)} is there"


def _port(settings: Settings, role: str) -> str:
    host, port = settings.address(PORTS[role])
    if presence(role, settings).alive:
        return f"{host}:{port} is served by our own {role}"
    listening_socket(host, port, name=PORTS[role]).close()
    return f"{host}:{port} is free"


def _ris(settings: Settings) -> str:
    verify_ris(found := ris(settings))
    return f"{found} answers C-ECHO, and offers a modality worklist"


def _destination(destination: Destination, settings: Settings) -> str:
    transport_of(destination, settings).verify()
    if destination.stow_url is not None:
        return f"{destination.stow_url} answers"
    found = peer(destination, settings)
    if destination.name not in settings.asked_for_commitment:
        return f"{found} answers C-ECHO"
    verify_offer(found)
    return f"{found} answers C-ECHO, and offers storage commitment"
