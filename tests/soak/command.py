"""The command line of the soak."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from postgres import running_postgres
from soak.run import Outcome, Plan, soak
from soak.samples import slope

MEGABYTE = 1024 * 1024
#: 1 kB an image, after the first thousand.
MOST_BYTES = 1024
DESCRIPTION = """\
Send thousands of images to one daemon with every role, on as many associations, of which every other one is broken off,
and measure what each role holds. Ends with a table; its exit status is 1 if an image was lost or doubled, or if memory,
threads or file handles grow.
"""


def main() -> int:
    """Run a soak and say what came of it; the exit status."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _end)
    plan = Plan(
        images=arguments.images, warm_up=arguments.warm_up, every=arguments.every, most_bytes=arguments.most_bytes
    )
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="cxr-triage-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    _say(f"soak: {plan.images} images, {plan.images} associations, {arguments.database}, in {folder}")
    with _database(arguments.database) as url, soak(folder, plan, url=url) as running:
        outcome = running.run()
    summary = _summary(outcome, plan, arguments.database)
    (folder / "summary.md").write_text(summary)
    _say(summary)
    return 1 if outcome.violations else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        yield ""
        return
    with running_postgres() as server:
        yield server.url(server.create())


def _summary(outcome: Outcome, plan: Plan, database: str) -> str:
    rate = plan.images / outcome.seconds
    told = (
        f"{plan.images} images and {outcome.associations} associations, half of them broken off, on {database}, in "
        f"{outcome.seconds / 60:.0f} minutes ({rate:.1f} images a second; {outcome.repeated} associations repeated)."
    )
    lines = [
        told,
        "",
        f"| role | bytes per image | memory, MB: after {plan.warm_up} images, at the end | threads | handles |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for role in sorted(outcome.before):
        before, after = outcome.before[role], outcome.after[role]
        memory = f"{before.resident_bytes / MEGABYTE:.1f}, {after.resident_bytes / MEGABYTE:.1f}"
        lines.append(
            f"| {role} | {slope(outcome.samples, role):.0f} | {memory} | {before.threads}, {after.threads} "
            f"| {before.handles}, {after.handles} |"
        )
    verdict = [f"- {violation}" for violation in outcome.violations[:50]] or [
        "Nothing lost, nothing doubled, no growth beyond the bound."
    ]
    return "\n".join([*lines, "", *verdict, ""])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/soak", description=DESCRIPTION)
    parser.add_argument("--images", type=int, default=10_000, help="images, and as many associations")
    parser.add_argument("--warm-up", type=int, default=1000, help="images before anything is judged")
    parser.add_argument("--every", type=int, default=50, help="images from one sample to the next")
    parser.add_argument("--most-bytes", type=float, default=MOST_BYTES, help="growth allowed per image and role")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--folder", type=Path, help="for everything that is left of it; a new one below /tmp")
    return parser.parse_args()


def _end(number: int, _frame: FrameType | None) -> None:
    """End in order: the daemon and the database of the run are stopped."""
    sys.exit(128 + number)
