"""What commands share: their settings, the ledger, how they print, and who runs them."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.model.errors import ConfigurationError

#: How wide tables are where no terminal says: a UID of 64 characters stays on one line.
PIPE_COLUMNS: Final = 140

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file; else the one that CXR_TRIAGE_CONFIG names.", metavar="FILE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StudyArgument = Annotated[str, typer.Argument(help="Study Instance UID.")]


def config_file(context: typer.Context, config: Path | None) -> Path | None:
    """Give the file that was named after the command, or before it."""
    return config if config is not None else context.find_object(Path)


def settings_of(context: typer.Context, config: Path | None) -> Settings:
    """Read the settings.

    Raises:
        ConfigurationError: they cannot be used.
    """
    # What a command makes from now on may hold patient data: only its owner may read it.
    os.umask(0o077)
    return load_settings(config_file(context, config))


# The rooms behind these are imported when they are needed: `cxr-triage --help` waits for none of them.


@contextmanager
def database_of(settings: Settings) -> Iterator[Any]:
    """Open the ledger's database.

    Raises:
        StorageError: it does not answer, or has another schema.
    """
    from cxr_triage.daemon.service import require_schema
    from cxr_triage.storage.database import open_database

    require_schema(settings)
    database = open_database(settings.database_url)
    try:
        yield database
    finally:
        database.close()


def clock_of(settings: Settings) -> Any:
    """Give the service's clock."""
    from cxr_triage.storage.service_clock import ServiceClock

    return ServiceClock.of(settings.run_folder)


def show(found: Any, as_json: bool, tables: Callable[[Any, Console], None]) -> None:
    """Print something as JSON, or as tables for a person."""
    if as_json:
        typer.echo(json.dumps(found))
    else:
        # In a pipe there is no screen to fit; Rich would take 80 columns.
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
        tables(found, Console(highlight=False, width=width))


def checked_uid(text: str) -> str:
    """Give a UID as it is (PS3.5 9.1: digits and dots, at most 64 characters).

    Raises:
        ConfigurationError: it is none.
    """
    if not text or len(text) > 64 or text.strip("0123456789."):
        raise ConfigurationError(f"{text!r} is no UID: digits and dots, at most 64 characters (PS3.5 9.1)")
    return text


def actor() -> str:
    """Say who acts, for the audit trail."""
    return f"command line, user {os.getuid()}"
