"""The roles by name: what `serve --role` takes, and what heartbeats, doorbells, locks and units are called after."""

from typing import Final

RECEIVE: Final = "receive"
WEB: Final = "web"
WORKLIST: Final = "worklist"
INFER: Final = "infer"
REPORT: Final = "report"
DELIVER: Final = "deliver"
UPKEEP: Final = "upkeep"
