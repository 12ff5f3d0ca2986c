"""The command line of the chaos run."""

import argparse
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

from chaos.campaign import Campaign, Plan
from chaos.databases import DATABASES
from chaos.summary import table

DESCRIPTION = """\
Kill the daemon's processes by SIGKILL again and again, at named points and at random, and check after each round that
nothing was lost, doubled, left behind or said. A run that was interrupted goes on where it stopped. Ends with a table;
its exit status is 1 if an invariant did not hold.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    databases = DATABASES if options.database == "both" else (options.database,)
    states = {}
    for database in databases:
        folder = options.folder / database
        if options.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        plan = Plan(database=database, kills=options.kills, at_random=options.at_random, seed=options.seed)
        _say(f"{database}: in {folder}, log in {folder / 'chaos.log'}")
        states[database] = Campaign(plan, folder, say=_say).run()
    _say(table(states))
    violations = [f"{database}: {what}" for database, state in states.items() for what in state.violations]
    for what in violations:
        _say(what)
    return 1 if violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/chaos", description=DESCRIPTION)
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both", help="default: both, one by one")
    parser.add_argument("--kills", type=int, default=500, help="on each database, in whole rounds (default 500)")
    parser.add_argument("--at-random", type=int, default=36, help="of them at random in each round (default 36)")
    parser.add_argument("--folder", type=Path, default=Path("chaos-output"), help="default: chaos-output")
    parser.add_argument("--seed", type=int, default=20240304, help="of chance, for a new run")
    parser.add_argument("--fresh", action="store_true", help="forget what is in the folder")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _end(number: int, _frame: FrameType | None) -> None:
    """End in order: the daemon, the PACS and the database of the run are stopped."""
    sys.exit(128 + number)
