"""A run's figures as it learns: said in the log, and kept as CSV in its work folder."""

import csv
from collections.abc import Mapping
from pathlib import Path

import structlog

log = structlog.get_logger()


def record(path: Path, event: str, figures: Mapping[str, float]) -> None:
    """Log the figures and append them as a row.

    Args:
        path: of the CSV file; its first row names the columns.
        event: what the log calls it.
        figures: the same names in each call.
    """
    log.info(event, **{name: round(value, 4) for name, value in figures.items()})
    fresh = not path.exists()
    with path.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(figures))
        if fresh:
            writer.writeheader()
        writer.writerow(figures)
