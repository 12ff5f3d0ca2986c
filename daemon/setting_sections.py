"""The tables of the configuration file, a class each.

Every setting is declared once, here; its description is the text of the reference page and of the example file.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from cxr_triage.daemon.setting_types import (
    HOUR,
    POSTGRES,
    SQLITE,
    AeTitle,
    DatabaseUrl,
    Device,
    Host,
    Hours,
    LevelName,
    Port,
    RaiseTo,
    Seconds,
    SecondsOrZero,
    Section,
    SeverityTable,
)
from cxr_triage.model.priority import Level, Mode, Policy


class StorageSettings(Section):
    """Where everything lies that must survive a power cut."""

    root: Path = Field(
        default=Path(),
        description="Folder that all relative paths start from; itself relative to this file (without a file: "
        "to the working directory).",
    )
    database: DatabaseUrl = Field(
        default="sqlite:///triage.db",
        repr=False,
        description=f"`{SQLITE}FILE` or `{POSTGRES}USER:PASSWORD@HOST/NAME`. The password is never printed.",
    )
    inbox: Path = Field(default=Path("inbox"), description="Folder of the received images.")
    outbox: Path = Field(default=Path("outbox"), description="Folder of the finished SR and SEG objects.")
    run: Path = Field(
        default=Path("run"),
        description="Folder of locks, heartbeats, wake-up sockets and the service's time; this machine's own, and kept "
        "over its restarts.",
    )
    minimum_free_megabytes: int = Field(
        default=500,
        ge=0,
        description="New images are refused (0xA700) when less would stay free beside inbox or database, so that there "
        "is room for the results of those acknowledged before.",
    )


class ModelSettings(Section):
    """The network."""

    bundle: str = Field(default="", description="Folder of a weights bundle; empty: the bundled one.")
    device: Device = Field(default="auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    sensitivity: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of a label's positives that are to reach its threshold: one of the operating points on the "
        "bundle's card; left out: the card's own.",
    )


class InferSettings(Section):
    """How images are indexed and scored."""

    workers: int = Field(
        default=1, ge=1, le=64, description="Processes that score; each holds the network and its share of the cores."
    )
    lease_seconds: Seconds = Field(
        default=300, description="How long a claimed image belongs to its worker unless it is extended."
    )
    deadline_seconds: Seconds = Field(
        default=120, description="Longest time for one image; past it the worker is ended and the attempt has failed."
    )
    maximum_attempts: int = Field(default=3, ge=1, description="Attempts at one image before it counts as failed.")
    retry_first_seconds: Seconds = Field(default=5, description="Wait before the second attempt; doubles each time.")
    retry_longest_seconds: Seconds = Field(default=600, description="Longest wait between attempts.")
    poll_seconds: Seconds = Field(default=2, description="How often to look for work when nobody rings.")
    score_again: bool = Field(
        default=True,
        description="Whether studies that wait for a reader are scored again when the service starts with other "
        "weights; new images come first.",
    )

    @model_validator(mode="after")
    def _lease_outlives_deadline(self) -> Self:
        if self.lease_seconds <= self.deadline_seconds:
            raise ValueError("lease_seconds must be longer than deadline_seconds, or two workers would score one image")
        return self


class ReportSettings(Section):
    """How SR and SEG are made."""

    poll_seconds: Seconds = Field(default=2, description="How often to look for work when nobody rings.")
    deadline_seconds: Seconds = Field(
        default=60, description="Longest time to read the pixels of an image that results are drawn on."
    )
    quiet_seconds: SecondsOrZero = Field(
        default=5,
        description="How long a study must have been without a new image before its result is made: the modality may "
        "still be sending. Its place on the list does not wait for this.",
    )
    force_seconds: SecondsOrZero = Field(
        default=300,
        description="Longest wait of a scored image for the others of its study: then its result is made without "
        "them, and revised when they are scored.",
    )


class WorklistSettings(Section):
    """The reading list: what the site lets findings do, and the modality worklist that shows it."""

    enabled: bool = Field(default=False, description="Whether the modality worklist is served.")
    ae_title: AeTitle = Field(default="CXRLIST", description="AE title of the modality worklist.")
    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: Port = Field(default=11113, description="TCP port to listen on.")
    allowed_ae_titles: tuple[AeTitle, ...] = Field(
        default=(), description="Calling AE titles that may read the list; empty: any."
    )
    maximum_associations: int = Field(default=10, ge=1, description="Associations served at the same time.")
    study_root: bool = Field(
        default=False, description="Whether the port also answers Study Root C-FIND, for clients of a PACS."
    )
    ups: bool = Field(
        default=False,
        description="Whether the port also serves unified procedure steps (UPS), by which readers claim studies.",
    )
    ups_event_hours: Hours = Field(
        default=72, description="How long to try to tell a subscriber of an event before that is given up."
    )
    mode: Mode = Field(
        default=Mode.REORDER,
        description="`reorder`: findings move studies; `advise`: they are shown; `shadow`: they are stored only.",
    )
    raise_to: RaiseTo = Field(
        default=Level.HIGH.name, description="Most urgent level that a finding may raise a study to; never STAT."
    )
    severity: SeverityTable = Field(
        default={},
        description="Weight per label, 0 to 1. A label that is left out has its default, or 0 where the bundle's card "
        "says that it is not for triage.",
    )
    maximum_wait_hours: dict[LevelName, Hours] = Field(
        default_factory=lambda: {level.name: wait / HOUR for level, wait in Policy().maximum_wait.items()},
        description="Longest wait per ordered level; levels left out keep their default.",
    )

    keep_orders_hours: Hours = Field(
        default=720,
        description="Age at which orders, a person's too, are forgotten of studies whose images never came.",
    )

    @property
    def is_open(self) -> bool:
        """Whether there is anything to serve."""
        return self.enabled or self.ups


class WebSettings(Section):
    """Health, readiness and metrics by HTTP; the reading list as a worklist (UPS-RS)."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: Port = Field(default=8080, description="TCP port to listen on.")
    allow_remote: bool = Field(
        default=False,
        description="Must be true for a host that is not this machine's loopback: nobody is asked who he is.",
    )
    ups: bool = Field(
        default=False,
        description="Whether the worklist is served (UPS-RS, PS3.18 section 11). It holds patient data. While "
        "`allow_remote` is false, requests must call this machine by a loopback name.",
    )
    ups_subscribers: tuple[AeTitle, ...] = Field(
        default=(),
        description="AE titles that may be subscribed to events, and are told of them by WebSocket; empty: none.",
    )


class LogSettings(Section):
    """What is written to standard error. Never patient data."""

    format: Literal["json", "console"] = Field(default="json", description="`json` or `console`.")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity written: `debug`, `info`, `warning` or `error`."
    )


class UpkeepSettings(Section):
    """What happens by the clock."""

    interval_seconds: Seconds = Field(default=15, description="How often leases of dead workers are given back.")
    leftover_seconds: Seconds = Field(
        default=60,
        description="How often to look for files that a crash left without a row, and how long they must "
        "have been so: an image is then taken into the ledger.",
    )
    finish_after_hours: Hours = Field(
        default=168, description="Age at which a study leaves the reading list although nobody reported it done."
    )
    keep_files_hours: Hours = Field(
        default=720, description="Age at which images and objects are removed; those with work left on them stay."
    )


class ServiceSettings(Section):
    """Start, stop and restart."""

    ready_seconds: Seconds = Field(default=120, description="Longest time until a role must have said that it serves.")
    drain_seconds: Seconds = Field(default=60, description="Longest time for a role to finish its work when stopped.")
    restart_first_seconds: Seconds = Field(default=1, description="Wait before a crashed role restarts; doubles.")
    restart_longest_seconds: Seconds = Field(default=60, description="Longest wait before a restart.")
    heartbeat_seconds: Seconds = Field(
        default=5, description="How often a role shows that it lives; silent three times as long, it counts as dead."
    )
