"""`cxr-triage demo`: the whole chain on radiographs that ship with the product, on this machine alone."""

import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from importlib.resources import as_file, files
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cxr_triage.daemon.demo.follow import Follower, Outcome, listed, seconds_to_list
from cxr_triage.daemon.demo.pacs import DemoPacs
from cxr_triage.daemon.demo.push import PushedFile, push, study_instance_uid
from cxr_triage.daemon.demo.serving import AE_TITLE, Service, write_configuration
from cxr_triage.daemon.demo.show import as_json, print_outcome
from cxr_triage.model.errors import ConfigurationError, TriageError
from cxr_triage.storage.database import open_database

#: Studies that are not ordered ROUTINE: an unremarkable one that nothing may overtake, and one that may only rise.
ORDERS: Final = {"08-ginkgo-dx.dcm": "STAT", "11-larch-dx.dcm": "LOW"}
#: Longest wait for the last object at the PACS. A slow machine needs about two seconds an image.
DEADLINE_SECONDS: Final = 600
POLL_SECONDS: Final = 0.25


def demo(
    *,
    as_json_line: Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the daemon running until Ctrl-C.")] = False,
    output: Annotated[Path | None, typer.Option(help="An empty or new folder. Default: ./demo-output/<time>.")] = None,
) -> None:
    """Start a daemon and a small PACS, push the radiographs that ship with it, show the list in its new order."""
    notes = Console(stderr=True)
    folder = fresh_folder(output)
    with _terminated_like_interrupted(), demonstrated(folder, notes) as (outcome, service):
        print_outcome(outcome, notes if as_json_line else Console(highlight=False), folder=folder)
        if as_json_line:
            typer.echo(as_json(outcome))
        if keep:
            _keep(service, notes)
    if outcome.losses():
        raise typer.Exit(1)


@contextmanager
def demonstrated(folder: Path, notes: Console) -> Iterator[tuple[Outcome, Service]]:
    """Run the demo in a folder; the daemon goes on for as long as the `with` block lasts.

    Raises:
        TriageError: The daemon did not start, ended, or was not done in time.
    """
    with ExitStack() as stack:
        pacs = stack.enter_context(DemoPacs(folder / "pacs"))
        configuration = write_configuration(folder, pacs_port=pacs.port)
        notes.print(f"Starting the daemon; its log is {folder / 'service.log'}")
        service = stack.enter_context(Service(configuration, log=folder / "service.log"))
        radiographs = stack.enter_context(as_file(files("cxr_triage.daemon.demo") / "radiographs"))
        yield run(sorted(radiographs.glob("*.dcm")), service, pacs, notes), service


def run(radiographs: Sequence[Path], service: Service, pacs: DemoPacs, notes: Console) -> Outcome:
    """Order, push, wait until nothing is left to do, and look.

    Raises:
        TriageError: The daemon ended, or was not done in time.
    """
    for path in radiographs:
        if path.name in ORDERS:
            service.run("order", "set", study_instance_uid(path), ORDERS[path.name])
    with closing(open_database(service.configuration.database_url)) as database, _progress(notes) as progress:
        follower = Follower(database)
        sent = progress.add_task("pushed", total=len(radiographs))
        pushed = push(
            radiographs,
            port=service.configuration.dicom_port,
            called_ae_title=AE_TITLE,
            progress=lambda _file: progress.advance(sent),
        )
        _wait(follower, service, acknowledged=sum(file.acknowledged for file in pushed), progress=progress)
        return _look(pushed, follower, service, pacs)


def fresh_folder(output: Path | None) -> Path:
    """Make the folder that everything is written to; a temporary one where this one cannot be written.

    Raises:
        ConfigurationError: `output` was asked for and cannot be used.
    """
    stamp = f"{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    try:
        if output is None:
            folder = Path("demo-output", stamp)
            folder.mkdir(parents=True)
        else:
            folder = output
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if output is not None:
            raise ConfigurationError(
                f"--output {str(output)!r} cannot be written ({error.strerror}): name another folder"
            ) from None
        folder = Path(tempfile.mkdtemp(prefix=f"cxr-triage-demo-{stamp}-"))
    if any(folder.iterdir()):
        raise ConfigurationError(f"--output {str(folder)!r} is not empty: name a new folder")
    return folder.resolve()


def _wait(follower: Follower, service: Service, *, acknowledged: int, progress: Progress) -> None:
    read = progress.add_task("read by the network or refused", total=acknowledged)
    delivered = progress.add_task("results at the PACS", total=None)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (standing := follower.standing(acknowledged)).finished:
        progress.update(read, completed=standing.read)
        progress.update(delivered, completed=standing.delivered, total=standing.made or None)
        service.require_running()
        if time.monotonic() > deadline:
            raise TriageError(
                f"after {DEADLINE_SECONDS} s, {standing.read} of {acknowledged} images were read and "
                f"{standing.delivered} of {standing.made} objects delivered: read {service.log}"
            )
        time.sleep(POLL_SECONDS)
    progress.update(read, completed=standing.read)
    progress.update(delivered, completed=standing.delivered, total=standing.made)


def _look(pushed: Sequence[PushedFile], follower: Follower, service: Service, pacs: DemoPacs) -> Outcome:
    return Outcome(
        pushed=pushed,
        scored=follower.scored(),
        refused=follower.refused(pushed),
        worklist=listed(service.run("worklist", "--json"), pushed),
        objects=pacs.objects(),
        seconds_push_to_list=seconds_to_list(pushed, follower.decided_at()),
    )


def _progress(notes: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=notes
    )


def _keep(service: Service, notes: Console) -> None:
    notes.print(service.readiness.removeprefix("cxr-triage ready: "))
    notes.print(f"Ask it: cxr-triage --config {service.configuration.path} status")
    notes.print("Ctrl-C stops it.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        notes.print("Stopping.")


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: everything that it started is stopped first."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
