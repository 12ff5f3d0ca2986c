"""The commands around the reading list: show it, explain a study's place, open, put back, done, pause."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from cxr_triage.daemon.command_line import (
    ConfigOption,
    JsonOption,
    StudyArgument,
    actor,
    checked_uid,
    clock_of,
    database_of,
    settings_of,
    show,
)
from cxr_triage.model.errors import ConfigurationError, TriageError

worklist_app = typer.Typer(help="The reading list in its order, with the reasons.")


@worklist_app.callback(invoke_without_command=True)
def worklist_show(context: typer.Context, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Print the reading list in its order, with the reasons; or do what a command says."""
    from cxr_triage.daemon.listing import print_table, rows
    from cxr_triage.storage.ledger import ReadingList

    if context.invoked_subcommand is not None:
        return
    settings = settings_of(context, config)
    with database_of(settings) as database:
        snapshot = ReadingList(database, clock=clock_of(settings)).snapshot()
    show(rows(snapshot, settings.policy()), as_json, print_table)


@worklist_app.command("explain")
def worklist_explain(
    context: typer.Context,
    study: StudyArgument,
    at: Annotated[
        str, typer.Option("--at", help="Explain its place at this time (ISO 8601; without an offset: UTC).")
    ] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say where a study stands, or stood at a time, and why; and everything that has happened to it."""
    from cxr_triage.daemon.explaining import explanation, print_explanation

    settings = settings_of(context, config)
    with database_of(settings) as database:
        found = explanation(
            checked_uid(study), database, when=_time(at), policy=settings.policy(), clock=clock_of(settings)
        )
    show(found, as_json, print_explanation)


@worklist_app.command("claim")
def worklist_claim(context: typer.Context, study: StudyArgument, config: ConfigOption = None) -> None:
    """Open a study for reading: it keeps its place, and no reading system is given it."""
    from cxr_triage.storage.ledger import ReadingList

    settings = settings_of(context, config)
    with database_of(settings) as database:
        reading_list = ReadingList(database, clock=clock_of(settings))
        if not reading_list.claim(checked_uid(study), by=actor(), actor=actor()):
            raise TriageError(
                f"study {study} is another's, or not on the list: `cxr-triage worklist` shows who reads what"
            )
    typer.echo(f"{study} is yours")


@worklist_app.command("release")
def worklist_release(context: typer.Context, study: StudyArgument, config: ConfigOption = None) -> None:
    """Put a study back that somebody opened and did not read."""
    from cxr_triage.storage.ledger import ReadingList

    settings = settings_of(context, config)
    with database_of(settings) as database:
        if not ReadingList(database, clock=clock_of(settings)).give_back(checked_uid(study), actor=actor()):
            raise TriageError(f"nobody reads study {study}: `cxr-triage worklist` shows who reads what")
    typer.echo(f"{study} waits again")


def done(context: typer.Context, study: StudyArgument, config: ConfigOption = None) -> None:
    """Take a study off the reading list: it has been read."""
    from cxr_triage.storage.ledger import ReadingList

    settings = settings_of(context, config)
    with database_of(settings) as database:
        if not ReadingList(database, clock=clock_of(settings)).finish(checked_uid(study), actor=actor()):
            raise TriageError(f"study {study} is not on the reading list: `cxr-triage worklist` shows what is")
    typer.echo(f"{study} is done")


def pause(
    context: typer.Context,
    reason: Annotated[str, typer.Argument(help="Why, for whoever looks at the list. No patient data.")],
    config: ConfigOption = None,
) -> None:
    """Let findings move no study, at once, until `resume`; images are still read and reported."""
    from cxr_triage.storage.ledger import ReadingList

    settings = settings_of(context, config)
    with database_of(settings) as database:
        reading_list = ReadingList(database, clock=clock_of(settings))
        if not reading_list.pause(reason, actor=actor(), policy=settings.policy()):
            raise TriageError("triage is paused already: `cxr-triage status` says since when, by whom and why")
    typer.echo("triage is paused: every study stands as it was ordered")


def resume(context: typer.Context, config: ConfigOption = None) -> None:
    """Let findings move studies again, as the policy says."""
    from cxr_triage.storage.ledger import ReadingList

    settings = settings_of(context, config)
    with database_of(settings) as database:
        if not ReadingList(database, clock=clock_of(settings)).resume(actor=actor(), policy=settings.policy()):
            raise TriageError("triage is not paused")
    typer.echo("triage goes on")


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        told = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"--at {text!r} is no time: write it as in 2026-03-01T14:02") from error
    return told.replace(tzinfo=UTC) if told.tzinfo is None else told
