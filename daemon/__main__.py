"""The command line: every command reads its settings, does one thing, and says in one line what went wrong."""

import sys
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from cxr_triage.daemon.command_line import (
    ConfigOption,
    JsonOption,
    actor,
    checked_uid,
    clock_of,
    config_file,
    database_of,
    settings_of,
    show,
)
from cxr_triage.daemon.list_commands import done, pause, resume, worklist_app
from cxr_triage.daemon.logs import configure_logs, silenced
from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.model.errors import BundleError, ConfigurationError, TriageError
from cxr_triage.model.priority import Level

#: Exit statuses, as Unix tools have them. USAGE: a person must change something, trying again does not help.
FAILURE: Final = 1
USAGE: Final = 2
#: Other rooms add commands under this entry point group; they are loaded when they are run, not to be listed.
COMMANDS: Final = "cxr_triage.commands"
#: What the list of commands says of those that are not loaded for it.
LOADED_LATER: Final = {
    "demo": "Show the whole chain on radiographs that ship with the product.",
    "train": "Train a weights bundle.",
    "evaluate": "Measure a weights bundle on a folder of images.",
    "manifest": "Make a published data set a folder to train on.",
}

app = typer.Typer(
    name="cxr-triage",
    help="DICOM worklist triage for chest radiographs. Research software, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
order_app = typer.Typer(
    help="Ordered priorities: what a person says counts before what the RIS says.", no_args_is_help=True
)
clock_app = typer.Typer(help="The service's time, and what it makes of the machine's clock.")
config_app = typer.Typer(help="What can be configured.", no_args_is_help=True)
app.add_typer(order_app, name="order")
app.add_typer(clock_app, name="clock")
app.add_typer(config_app, name="config")
app.add_typer(worklist_app, name="worklist")
for _command in (done, pause, resume):
    app.command()(_command)


def main() -> None:
    """Run the command line; a named error is one line on standard error, never a traceback."""
    try:
        app()
    except (ConfigurationError, BundleError) as error:
        _fail(error, USAGE)
    except TriageError as error:
        _fail(error, FAILURE)


def _fail(error: TriageError, status: int) -> None:
    sys.stderr.write(f"cxr-triage: {error}\n")
    sys.exit(status)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cxr-triage {version('cxr-triage')}")
        raise typer.Exit


@app.callback()
def _before_every_command(
    context: typer.Context,
    config: ConfigOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    context.obj = config
    # Until the settings say more: whatever goes wrong must not print values of patients.
    configure_logs(LogSettings(format="console", level="warning"), role="command")


@app.command()
def serve(
    context: typer.Context,
    role: Annotated[str | None, typer.Option(help="Be this one role; without it: all of them, supervised.")] = None,
    number: Annotated[
        int, typer.Option(min=1, help="Which process of the role to be; only `receive` has several.")
    ] = 1,
    config: ConfigOption = None,
) -> None:
    """Receive, read, report, deliver and list, until SIGTERM or Ctrl-C."""
    from cxr_triage.daemon.service import run_all, run_role

    settings = settings_of(context, config)
    if role is not None:
        run_role(role, settings, number=number)
    else:
        run_all(settings, config=config_file(context, config), announce=typer.echo)


@app.command()
def check(context: typer.Context, config: ConfigOption = None) -> None:
    """Look at configuration, folders, database, weights, ports and destinations; say what is wrong and what to do."""
    from cxr_triage.daemon.check import check as look

    settings, console = settings_of(context, config), Console(highlight=False, soft_wrap=True)
    console.print("[green]ok   [/] configuration: every setting can be used")
    wrong = 0
    # What pynetdicom logs of a destination that is down, the finding says better.
    with silenced("pynetdicom"):
        for finding in look(settings):
            wrong += not finding.ok
            console.print("[green]ok   [/]" if finding.ok else "[red]wrong[/]", end=" ")
            console.print(f"{finding.subject}: {finding.message}", markup=False)
    if wrong:
        raise typer.Exit(FAILURE)


@app.command()
def status(context: typer.Context, as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Count images, results and deliveries by state; say how old the oldest is and who is alive."""
    from cxr_triage.daemon.alerts import current_alerts
    from cxr_triage.daemon.status import as_dict, print_tables, standing

    settings = settings_of(context, config)
    clock = clock_of(settings)
    with database_of(settings) as database:
        now = standing(database, settings, clock)
    found = as_dict(now, settings, now=clock(), alerts=current_alerts(now.counts, clock, settings))
    show(found, as_json, print_tables)


@order_app.command("set")
def order_set(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    level: Annotated[str, typer.Argument(help=", ".join(Level.__members__))],
    config: ConfigOption = None,
) -> None:
    """Say how urgently a study was ordered, also before its first image."""
    from cxr_triage.storage.ledger import ReadingList

    if level.upper() not in Level.__members__:
        raise ConfigurationError(f"level {level!r} is none: write one of {', '.join(Level.__members__)}")
    settings = settings_of(context, config)
    with database_of(settings) as database:
        ordered = Level[level.upper()]
        reading_list = ReadingList(database, clock=clock_of(settings))
        reading_list.set_ordered(checked_uid(study), ordered, actor=actor(), policy=settings.policy())
        listed = {each.study_instance_uid for each in reading_list.studies()}
    typer.echo(
        f"{study} is ordered {ordered.name}" + ("" if study in listed else "; it is not on the reading list now")
    )


@app.command()
def replay(
    context: typer.Context,
    uid: Annotated[
        str | None,
        typer.Argument(
            help="SOP Instance UID of an image without a result, or of a result not delivered; Study Instance UID of a "
            "study whose results were withdrawn."
        ),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Try every image again that failed.")] = False,
    dead: Annotated[
        str | None, typer.Option(help="Send again everything that was given up for it.", metavar="DESTINATION")
    ] = None,
    not_taken: Annotated[
        str | None, typer.Option(help="Offer again everything that it did not take.", metavar="DESTINATION")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Bring back what was given up, not taken or withdrawn: an image, a result, a study, a destination's deliveries."""
    from cxr_triage.daemon.replay import replay_dead, replay_failed, replay_not_taken, replay_uid

    if (uid is not None) + failed + (dead is not None) + (not_taken is not None) != 1:
        raise ConfigurationError("name exactly one of: a UID, --failed, --dead DESTINATION, --not-taken DESTINATION")
    settings = settings_of(context, config)
    with database_of(settings) as database:
        if dead is not None:
            done = replay_dead(dead, settings, database, actor=actor())
        elif not_taken is not None:
            done = replay_not_taken(not_taken, settings, database, actor=actor())
        elif uid is not None:
            done = replay_uid(checked_uid(uid), settings, database, actor=actor())
        else:
            done = replay_failed(settings, database, actor=actor())
    typer.echo(done)


@app.command()
def withdraw(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    reason: Annotated[str, typer.Option(help="quality, patient-safety or worklist-entry.")],
    config: ConfigOption = None,
) -> None:
    """Take a study's results back: they order no list any more, and the destinations that have them are told so."""
    from cxr_triage.daemon.withdraw import withdraw_study

    settings = settings_of(context, config)
    with database_of(settings) as database:
        done = withdraw_study(checked_uid(study), reason, settings, database, actor=actor())
    typer.echo(done)


@clock_app.callback(invoke_without_command=True)
def clockshow(context: typer.Context, config: ConfigOption = None) -> None:
    """Show the machine's clock, the service's time, and how far they are apart."""
    from cxr_triage.daemon.clock_command import describe

    if context.invoked_subcommand is None:
        typer.echo(describe(clock_of(settings_of(context, config)).reading()))


@clock_app.command("accept")
def clock_accept(context: typer.Context, config: ConfigOption = None) -> None:
    """Say that the machine's clock was set rightly, while the service is stopped: the time waited stays what it was."""
    from cxr_triage.daemon.clock_command import accept

    settings = settings_of(context, config)
    with database_of(settings) as database:
        typer.echo(accept(clock_of(settings), database, actor=actor()))


@app.command()
def migrate(context: typer.Context, config: ConfigOption = None) -> None:
    """Create the database's tables, or bring them to this version."""
    from cxr_triage.storage.migrate import migrate as upgrade

    settings = settings_of(context, config)
    settings.prepare_folders()
    upgrade(settings.database_url)
    typer.echo(f"{settings.printable_database} has this version's schema")


@app.command()
def backup(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="New, empty, or an earlier backup of the same database.")],
    config: ConfigOption = None,
) -> None:
    """Copy database, images and results into a folder, consistently, while the service runs."""
    from cxr_triage.daemon.backups import make_backup

    make_backup(settings_of(context, config), folder, typer.echo)


@app.command()
def restore(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A backup.")],
    check: Annotated[bool, typer.Option("--check", help="Only verify the backup; nothing is written.")] = False,
    leave_out_damaged: Annotated[
        bool, typer.Option("--leave-out-damaged", help="Restore what is whole, instead of nothing.")
    ] = False,
    keep_other_files: Annotated[
        bool, typer.Option("--keep-other-files", help="Leave newer images in the inbox: the service takes them in.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Put a backup into an empty database, of either kind, while the service is stopped."""
    from cxr_triage.daemon.backups import check_backup
    from cxr_triage.daemon.backups import restore as put_back

    settings = settings_of(context, config)
    if check:
        check_backup(folder, typer.echo)
    else:
        put_back(settings, folder, typer.echo, leave_out_damaged=leave_out_damaged, keep_other_files=keep_other_files)


@app.command("explain-display")
def explain_display(
    files: Annotated[list[Path], typer.Argument(help="DICOM files: SEG, SR, presentation states, images.")],
    viewer: Annotated[str, typer.Option(help="ohif, stone, weasis or dcmqi.")],
    as_json: JsonOption = False,
) -> None:
    """Say whether a viewer will draw an object and why not, rule by rule; nothing of the patient is printed."""
    from cxr_triage.daemon.display.command import all_drawn, explain, print_explained

    explained = explain(files, viewer)
    show(explained, as_json, print_explained)
    if not all_drawn(explained):
        raise typer.Exit(FAILURE)


@app.command()
def simulate(
    context: typer.Context,
    scenario: Annotated[
        Path | None, typer.Option(help="TOML file of traffic, readers and findings; default: one reader, load 0.8.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot: .png, .svg or .pdf.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Say what this policy would do to waiting: minutes saved per critical study, and the worst case."""
    from cxr_triage.daemon.simulation.command import play, print_figures
    from cxr_triage.daemon.simulation.scenario import load_scenario
    from cxr_triage.model.bundle import read_card

    settings = settings_of(context, config)
    card = read_card(settings.bundle_folder)
    figures = play(
        load_scenario(scenario),
        settings.policy(),
        card,
        error=Console(stderr=True),
        sensitivity=settings.model.sensitivity,
        plot=plot,
    )
    show(figures, as_json, print_figures)


@app.command()
def conformance(kind: Annotated[str, typer.Option(help="dicom or ihe.")] = "dicom") -> None:
    """Print the DICOM conformance statement, or the IHE integration statement, as Markdown."""
    from cxr_triage.daemon.conformance.command import statement

    typer.echo(statement(kind), nl=False)


@config_app.command("example")
def config_example() -> None:
    """Print a configuration file with every setting and its default."""
    from cxr_triage.daemon.reference import example_configuration

    typer.echo(example_configuration(), nl=False)


@config_app.command("reference")
def config_reference() -> None:
    """Print the reference of all settings as Markdown."""
    from cxr_triage.daemon.reference import reference_page

    typer.echo(reference_page(), nl=False)


def _add_later(name: str, load: Callable[[], Callable[..., Any]]) -> None:
    """Add a command that is loaded when it is run, and then reads its own arguments and `--help`."""

    @app.command(
        name,
        help=LOADED_LATER.get(name, ""),
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def delegate(context: typer.Context) -> None:
        own = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        try:
            own.command(name)(load())
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            raise TriageError(
                f"`cxr-triage {name}` needs the package {package}: install the extra, `pip install cxr-triage[train]`"
            ) from error
        status = own(args=context.args, prog_name=f"cxr-triage {name}", standalone_mode=False)
        if isinstance(status, int):
            raise typer.Exit(status)


def _load_demo() -> Callable[..., Any]:
    from cxr_triage.daemon.demo.command import demo

    return demo


_add_later("demo", _load_demo)
for _entry_point in sorted(entry_points(group=COMMANDS), key=lambda each: each.name):
    _add_later(_entry_point.name, _entry_point.load)

if __name__ == "__main__":
    main()
