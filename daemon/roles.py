"""The roles by name: what `serve --role` takes, and what heartbeats, doorbells, locks and units are called after.

A role is one process, named like it; only `receive` may be several, which share the DICOM port and are numbered from 1.
"""

from typing import Final

RECEIVE: Final = "receive"
WEB: Final = "web"
WORKLIST: Final = "worklist"
INFER: Final = "infer"
REPORT: Final = "report"
DELIVER: Final = "deliver"
ORDERS: Final = "orders"
UPKEEP: Final = "upkeep"


def process_name(role: str, number: int) -> str:
    """The name of a role's process: "receive-1", "infer"."""
    return f"{role}-{number}" if role == RECEIVE else role


def role_of(process: str) -> str:
    """The role of a process by its name."""
    return process.partition("-")[0]
