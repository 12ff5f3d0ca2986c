"""Whether the service can do its work now, and if not, why: one sentence per reason."""

from cxr_triage.daemon.service import presences
from cxr_triage.daemon.settings import Settings
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.migrate import require_current_schema


def reasons_against(settings: Settings, database: Database) -> list[str]:
    """Everything that keeps images from being triaged; empty: the service is ready."""
    return [*_database(database), *_roles(settings)]


def _database(database: Database) -> list[str]:
    try:
        Housekeeping(database).ping()
        require_current_schema(database)
    except StorageError as error:
        return [f"database: {error}"]
    return []


def _roles(settings: Settings) -> list[str]:
    return [f"role {role}: no sign of life" for role, found in presences(settings).items() if not found.alive]
