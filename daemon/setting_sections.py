"""The tables of the configuration file, a class each.

Every setting is declared once, here; its description is the text of the reference page and of the example file.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cxr_triage.daemon.results.profiles import AIR
from cxr_triage.daemon.setting_types import (
    HOUR,
    POSTGRES,
    SQLITE,
    AeTitle,
    Colour,
    DatabaseUrl,
    Description,
    Device,
    Host,
    Hours,
    LevelName,
    Meaning,
    MinutesOrZero,
    ObjectName,
    Port,
    RaiseTo,
    Seconds,
    SecondsOrZero,
    SeverityTable,
    StandIns,
    StowUrl,
    is_kept_secret,
)
from cxr_triage.model.priority import Level, Mode, Policy


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DicomSettings(Section):
    """The port that modalities send images to."""

    ae_title: AeTitle = Field(default="CXRTRIAGE", description="AE title that we answer to.")
    host: Host = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: Port = Field(default=11112, description="TCP port to listen on.")
    allowed_ae_titles: tuple[AeTitle, ...] = Field(
        default=(), description="Calling AE titles that may send; empty: any."
    )
    require_called_ae_title: bool = Field(
        default=False, description="Whether a sender must call us by our AE title, or is refused."
    )
    receivers: int = Field(
        default=2,
        ge=1,
        le=16,
        description="Processes that share this port: while one starts again, the others answer.",
    )
    maximum_associations: int = Field(
        default=10, ge=1, description="Associations served at the same time, by all receivers together."
    )
    maximum_pdu_bytes: int = Field(
        default=131072, ge=4096, le=4294967295, description="Largest P-DATA-TF PDU that we receive (PS3.8 9.3.1)."
    )
    acse_timeout_seconds: Seconds = Field(default=30, description="Longest wait within association set-up.")
    dimse_timeout_seconds: Seconds = Field(default=60, description="Longest wait for the rest of a DIMSE message.")
    network_timeout_seconds: Seconds = Field(default=60, description="Longest silence of a peer before we hang up.")
    commitment: bool = Field(
        default=False,
        description="Whether modalities may ask for storage commitment, on which they delete their images. We pass on "
        "what the PACS says, and never commit ourselves.",
    )
    commitment_destination: str = Field(
        default="",
        description="Name of the `[[destination]]` that is asked whether it has the images; required with "
        "`commitment = true`.",
    )
    commitment_give_up_hours: Hours = Field(
        default=72, description="Age at which a modality's request fails for the images that the PACS has not yet."
    )
    commitment_report_hours: Hours = Field(
        default=72, description="How long to try to tell a modality the result before that is given up."
    )


class Modality(Section):
    """Where one modality that may ask for storage commitment is reached with the result. Repeat the table for more."""

    ae_title: AeTitle = Field(description="AE title that it calls us with, and that it answers to.")
    host: Host = Field(description="Its address.")
    port: Port = Field(description="Its TCP port.")


class UpsSubscriber(Section):
    """Where one system that may subscribe to procedure steps is told of their events. Repeat the table for more."""

    ae_title: AeTitle = Field(description="AE title that it subscribes for, and that it answers to.")
    host: Host = Field(description="Its address.")
    port: Port = Field(description="Its TCP port.")


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


class DeliverSettings(Section):
    """How objects are sent to the destinations."""

    lease_seconds: Seconds = Field(default=300, description="How long a claimed object belongs to its sender.")
    acse_timeout_seconds: Seconds = Field(default=10, description="Longest wait within association set-up.")
    dimse_timeout_seconds: Seconds = Field(default=60, description="Longest wait for a destination's answer.")
    network_timeout_seconds: Seconds = Field(default=60, description="Longest silence before we hang up.")
    retry_first_seconds: Seconds = Field(default=5, description="Wait after the first failure; doubles each time.")
    retry_longest_seconds: Seconds = Field(default=600, description="Longest wait between attempts.")
    give_up_after_hours: Hours = Field(
        default=168,
        description="Age at which an object is given up that a destination does not answer for, or has no room for.",
    )
    maximum_refusals: int = Field(
        default=3,
        ge=1,
        description="Offers of an object that a destination refuses for good; the wait between them is the short one.",
    )
    poll_seconds: Seconds = Field(default=2, description="How often to look for work when nobody rings.")
    commitment_delay_seconds: Seconds = Field(
        default=30, description="How long an object has been stored before its destination is asked to commit to it."
    )
    commitment_wait_seconds: Seconds = Field(
        default=5,
        description="How long the association of a request for commitment stays open for a report on it; most PACS "
        "open one of their own.",
    )
    commitment_retry_hours: Hours = Field(
        default=6,
        description="When to ask for commitment again where no report came, or where the destination refused to be "
        "asked.",
    )
    commitment_maximum_failures: int = Field(
        default=5,
        ge=1,
        description="How often a destination may answer that it does not commit to an object; it is sent again each "
        "time but the last.",
    )


class Destination(Section):
    """One PACS that results are sent to, by C-STORE or, with `stow_url`, by STOW-RS. Repeat the table for more."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$", description="Our name for it.")
    ae_title: AeTitle = Field(default="", description="AE title that it answers to; required without `stow_url`.")
    host: Host = Field(default="", description="Its address; required without `stow_url`.")
    port: Port = Field(default=0, description="Its TCP port; required without `stow_url`.")
    stow_url: StowUrl | None = Field(
        default=None,
        description="Address of its DICOMweb Studies resource, `https://pacs.example.org/dicom-web/studies`: objects "
        "are stored there by STOW-RS.",
    )
    stow_token_file: Path | None = Field(
        default=None, description="File with the bearer token that we show there; read anew each time."
    )
    stow_password_file: Path | None = Field(
        default=None,
        description="File with `USER:PASSWORD` that we show there (basic authentication); read anew each time.",
    )
    stow_ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities that vouch for it; left out: those of this machine."
    )
    profile: str = Field(
        default=AIR.name,
        description="Emission profile: what is sent, and how it is written. `air` (IHE AI Results: SEG and SR by the "
        "standard), `ohif` (the same with a nominal plane and a line in every group of the SR), `stone` (pictures and "
        "a Comprehensive SR, for Orthanc's Stone Web Viewer), `weasis` (SEG, presentation states, SR and Key Object "
        "Selection), `floor` (pictures and sentences, which every PACS shows), or the name of a `[[profile]]`.",
    )
    commitment: bool = Field(
        default=False,
        description="Whether it is asked for storage commitment; an object then counts as delivered, and may leave the "
        "outbox, only once it has committed to it. Not by STOW-RS, which has no such thing.",
    )
    rejection_notes: bool = Field(
        default=False,
        description="Whether it acts on rejection notes (IHE Imaging Object Change Management) and is sent one about "
        "what was superseded or withdrawn.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.stow_url is None:
            self._require_dicom()
        else:
            self._require_stow()
        return self

    def _require_dicom(self) -> None:
        if not (self.ae_title and self.host and self.port):
            raise ValueError("write ae_title, host and port (C-STORE), or stow_url (STOW-RS)")
        if self.stow_token_file or self.stow_password_file or self.stow_ca_file:
            raise ValueError("stow_token_file, stow_password_file and stow_ca_file need stow_url")

    def _require_stow(self) -> None:
        if {"ae_title", "host", "port"} & self.model_fields_set:
            raise ValueError("write ae_title, host and port (C-STORE) or stow_url (STOW-RS), not both")
        if self.commitment:
            raise ValueError("commitment = true needs ae_title, host and port: STOW-RS knows no storage commitment")
        if self.stow_token_file and self.stow_password_file:
            raise ValueError("write stow_token_file or stow_password_file, not both")
        if (self.stow_token_file or self.stow_password_file) and not is_kept_secret(self.stow_url or ""):
            raise ValueError("a token or password needs https: by http anybody on the way reads it")


class EmissionProfile(Section):
    """An emission profile of the site's own. Repeat the table for more."""

    name: str = Field(
        min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$", description="What destinations name it by."
    )
    like: Literal["air", "ohif", "stone", "weasis", "floor"] = Field(
        default="air", description="The profile that it is like but for what follows."
    )
    objects: tuple[ObjectName, ...] = Field(
        default=(),
        description="What is made: `SEG` (segmentation), `PR` (presentation state), `SC` (picture with the drawing "
        "burned in), `SR` (report), `KO` (Key Object Selection of images with findings); empty: as in `like`.",
    )
    stand_ins: StandIns | None = Field(
        default=None,
        description="What is sent instead of what a destination does not take, form by form: of `SEG`, `PR`, `SC`, and "
        "of reports, `comprehensive 3d`, `comprehensive`, `basic text`; `{}`: nothing; left out: as in `like`.",
    )
    series_descriptions: dict[ObjectName, Description] = Field(
        default={}, description="Series Description per object, at most 56 characters."
    )
    series_numbers: dict[ObjectName, Annotated[int, Field(ge=0, le=2**31 - 1)]] = Field(
        default={}, description="Series Number per object."
    )
    colours: dict[Literal["left_lung", "right_lung", "heart"], Colour] = Field(
        default={}, description="Display colour per structure, `#rrggbb`."
    )
    opacity: float = Field(
        default=AIR.opacity, ge=0, le=1, description="How much the structures' areas colour a picture; 0: lines alone."
    )
    capture_pixels: int = Field(
        default=AIR.capture_pixels, ge=256, le=4096, description="Longer side of a picture; smaller images stay small."
    )
    font: Path | None = Field(
        default=None, description="TrueType file of the letters in pictures; left out: Latin letters of our own."
    )
    notice: str = Field(default="", max_length=200, description="A first line in what is drawn on images.")
    language: Literal["en", "de", "es", "fr"] = Field(
        default="en", description="Language of the codes' meanings; sentences stay English."
    )
    meanings: dict[str, Meaning] = Field(
        default={}, description='Meanings of single codes, by `SCHEME:VALUE`: `{"SCT:36118008" = "Pneumothorax"}`.'
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


class RisSettings(Section):
    """The RIS: its modality worklist is asked how urgently a study was ordered that came without an order."""

    host: Host | None = Field(
        default=None, description="Its address; left out: it is not asked, and such studies are ROUTINE."
    )
    port: Port | None = Field(default=None, description="Its TCP port; required with `host`.")
    ae_title: AeTitle | None = Field(default=None, description="AE title that it answers to; required with `host`.")
    calling_ae_title: AeTitle | None = Field(
        default=None, description="AE title that we call it with; left out: `dicom.ae_title`."
    )
    interval_seconds: Seconds = Field(
        default=60, description="When it is asked again about a study of which it did not know; doubles each time."
    )
    interval_longest_seconds: Seconds = Field(default=900, description="Longest wait between two questions.")
    give_up_hours: Hours = Field(default=12, description="How long it is asked about a study before that is given up.")
    ask_again_minutes: MinutesOrZero = Field(
        default=15,
        description="When it is asked again about a study that it answered for and that nobody reads yet: that may be "
        "more urgent by now. At most one such question per `poll_seconds`; 0: it is not asked again.",
    )
    poll_seconds: Seconds = Field(default=2, description="How often to look for studies to ask about.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if len({self.host is None, self.port is None, self.ae_title is None}) > 1:
            raise ValueError("write host, port and ae_title of the RIS, or none of them")
        return self


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
