"""`cxr-triage backup` and `restore`: what they say, and what they look at before they begin."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress, TaskID

from cxr_triage.daemon.heartbeat import is_alive
from cxr_triage.daemon.service import ROLES
from cxr_triage.daemon.settings import Settings
from cxr_triage.model.errors import TriageError
from cxr_triage.storage import backup as backups
from cxr_triage.storage.backup import Advance, Manifest, Service
from cxr_triage.storage.service_clock import ServiceClock

#: A step's name in the code -> in words.
STEPS: Final = {"rows": "Rows", "files": "Files", "verify": "Verifying"}

Say = Callable[[str], None]


def back_up(settings: Settings, folder: Path, say: Say) -> None:
    """Make a backup and say what is in it.

    Raises:
        TriageError: there is none, or it lacks files that rows own; those are named before.
    """
    with _progress() as advance:
        clock = ServiceClock.of(settings.run_folder)
        made = backups.back_up(_service(settings), folder.absolute(), advance=advance, clock=clock)
    say(f"backup in {folder}: {_contents(made)}, as of {made.made_at:%Y-%m-%d %H:%M:%S} UTC")
    for each in made.problems:
        say(f"not in it: {each.place}/{each.path} is {each.problem} (SOP Instance UID {each.sop_instance_uid})")
    if made.problems:
        raise TriageError(
            f"the backup lacks {len(made.problems)} files, named above, which are missing or damaged here: check the "
            "disk; it can be restored without them"
        )


def check_backup(folder: Path, say: Say) -> None:
    """Verify a backup and say what is in it.

    Raises:
        TriageError: it is not whole.
    """
    with _progress() as advance:
        found, wrong = backups.verify(folder.absolute(), advance=advance)
    if wrong:
        raise backups.damaged(folder, wrong)
    say(f"{folder} is whole: {_contents(found)}, as of {found.made_at:%Y-%m-%d %H:%M:%S} UTC")


def restore(settings: Settings, folder: Path, say: Say, *, leave_out_damaged: bool, keep_other_files: bool) -> None:
    """Put a backup in place and say what is there now.

    Raises:
        TriageError: it was not restored; the message says why and what to do.
    """
    settings.prepare_folders()
    beat = settings.service.heartbeat_seconds
    alive = [role for role in ROLES if is_alive(settings.run_folder, role, beat)]
    if alive:
        raise TriageError(f"the service is at work in {settings.run_folder} ({', '.join(alive)}): stop it first")
    with _progress() as advance:
        done = backups.restore(
            folder.absolute(),
            _service(settings),
            leave_out_damaged=leave_out_damaged,
            keep_other_files=keep_other_files,
            advance=advance,
            clock=ServiceClock.of(settings.run_folder),
        )
    made_at = f"{done.backup.made_at:%Y-%m-%d %H:%M:%S} UTC"
    say(f"restored into {settings.printable_database}: {_contents(done.backup)}, as of {made_at}")
    for kept in done.left_out:
        say(f"left out: {kept.place}/{kept.path} is damaged or missing in the backup")
    say(f"images that were acknowledged after {made_at} are not in it: have them sent again")


def _service(settings: Settings) -> Service:
    return Service(
        database_url=settings.database_url,
        printable_database=settings.printable_database,
        inbox=settings.inbox_folder,
        outbox=settings.outbox_folder,
    )


def _contents(made: Manifest) -> str:
    images = sum(kept.place == "inbox" for kept in made.files)
    counts = made.counts
    return (
        f"{counts['instance']} images ({images} with their files), {counts['study']} studies, "
        f"{len(made.files) - images} result files"
    )


@contextmanager
def _progress() -> Iterator[Advance]:
    """Draw a bar per step, where somebody watches."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield backups.in_silence
        return
    with Progress(console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(step: str, done: int, whole: int | None) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(STEPS[step], total=whole)
            progress.update(tasks[step], completed=done)

        yield advance
