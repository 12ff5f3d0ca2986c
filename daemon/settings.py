"""TOML and environment -> frozen settings, validated before anything starts.

Every setting is declared once, here; its description is the text of the reference page and of the example file.
"""

import errno
import os
import tempfile
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from cxr_triage.daemon.setting_errors import explain, refuse_unknown_variables, without_secrets
from cxr_triage.daemon.setting_types import (
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
    SeverityTable,
    is_loopback,
    overlap,
)
from cxr_triage.model.errors import MACHINE_FAULTS, ConfigurationError, StorageError
from cxr_triage.model.priority import Level, Mode, Policy
from cxr_triage.storage.space import MEGABYTE, LowWater

ENVIRONMENT_PREFIX: Final = "CXR_TRIAGE_"
CONFIG_VARIABLE: Final = "CXR_TRIAGE_CONFIG"
HOUR: Final = timedelta(hours=1)
#: What may keep a folder from being written without anybody having to change the configuration.
PASSING: Final = MACHINE_FAULTS - {errno.EACCES, errno.EPERM, errno.EROFS}


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

    @model_validator(mode="after")
    def _lease_outlives_deadline(self) -> Self:
        if self.lease_seconds <= self.deadline_seconds:
            raise ValueError("lease_seconds must be longer than deadline_seconds, or two workers would score one image")
        return self


class ReportSettings(Section):
    """How SR and SEG are made."""

    poll_seconds: Seconds = Field(default=2, description="How often to look for work when nobody rings.")


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
    """One PACS that SR and SEG are sent to. Repeat the table for more."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$", description="Our name for it.")
    ae_title: AeTitle = Field(description="AE title that it answers to.")
    host: Host = Field(description="Its address.")
    port: Port = Field(description="Its TCP port.")
    profile: Literal["air", "ohif"] = Field(
        default="air",
        description="Emission profile: `air` (IHE AI Results: one SEG per image, one SR per study), or `ohif` (the "
        "same with a nominal plane and an outline in every group of the SR, for viewers that need them).",
    )
    commitment: bool = Field(
        default=False,
        description="Whether it is asked for storage commitment; an object then counts as delivered, and may leave the "
        "outbox, only once it has committed to it.",
    )


class WorklistSettings(Section):
    """The reading list: what the site lets findings do, and the modality worklist that shows it."""

    enabled: bool = Field(default=False, description="Whether the modality worklist port is opened.")
    ae_title: AeTitle = Field(default="CXRLIST", description="AE title of the modality worklist.")
    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: Port = Field(default=11113, description="TCP port to listen on.")
    allowed_ae_titles: tuple[AeTitle, ...] = Field(
        default=(), description="Calling AE titles that may read the list; empty: any."
    )
    maximum_associations: int = Field(default=10, ge=1, description="Associations served at the same time.")
    mode: Mode = Field(
        default=Mode.REORDER,
        description="`reorder`: findings move studies; `advise`: they are shown; `shadow`: they are stored only.",
    )
    raise_to: RaiseTo = Field(
        default=Level.HIGH.name, description="Most urgent level that a finding may raise a study to; never STAT."
    )
    severity: SeverityTable = Field(
        default_factory=lambda: dict(Policy().severity),
        description="Weight per label, 0 to 1; labels left out keep their default.",
    )
    maximum_wait_hours: dict[LevelName, Hours] = Field(
        default_factory=lambda: {level.name: wait / HOUR for level, wait in Policy().maximum_wait.items()},
        description="Longest wait per ordered level; levels left out keep their default.",
    )


class WebSettings(Section):
    """Health, readiness and metrics by HTTP."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: Port = Field(default=8080, description="TCP port to listen on.")
    allow_remote: bool = Field(
        default=False,
        description="Must be true for a host that is not this machine's loopback: nobody is asked who he is.",
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


class Settings(BaseSettings):
    """Everything that a site decides."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    dicom: DicomSettings = DicomSettings()
    storage: StorageSettings = StorageSettings()
    model: ModelSettings = ModelSettings()
    destination: tuple[Destination, ...] = ()
    modality: tuple[Modality, ...] = ()
    worklist: WorklistSettings = WorklistSettings()
    web: WebSettings = WebSettings()
    infer: InferSettings = InferSettings()
    report: ReportSettings = ReportSettings()
    deliver: DeliverSettings = DeliverSettings()
    logs: LogSettings = LogSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    service: ServiceSettings = ServiceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose tables are the constructor's arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_doubles([destination.name for destination in self.destination])
        _refuse_clashes(self)
        _require_commitment_destination(self)
        if not (self.web.allow_remote or is_loopback(self.web.host)):
            raise ValueError(
                f"web.host = {self.web.host!r} is reached from other machines: write 127.0.0.1, or set "
                "web.allow_remote = true when a firewall or proxy decides who may read it"
            )
        return self

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Where SR and SEG are sent."""
        return self.destination

    @property
    def committing(self) -> frozenset[str]:
        """Names of the destinations where an object counts as delivered only once they have committed to it."""
        return frozenset(destination.name for destination in self.destination if destination.commitment)

    @property
    def asked_for_commitment(self) -> frozenset[str]:
        """Names of the destinations that are asked for storage commitment: to results, to images, or to both."""
        images = {self.dicom.commitment_destination} if self.dicom.commitment else set()
        return self.committing | images

    @property
    def inbox_folder(self) -> Path:
        """Where received images lie, absolute."""
        return self._resolve(self.storage.inbox)

    @property
    def outbox_folder(self) -> Path:
        """Where finished objects lie, absolute."""
        return self._resolve(self.storage.outbox)

    @property
    def run_folder(self) -> Path:
        """Locks, heartbeats and wake-up sockets, absolute."""
        return self._resolve(self.storage.run)

    @property
    def bundle_folder(self) -> Path | None:
        """The weights bundle, absolute; None: the bundled one."""
        return self._resolve(Path(self.model.bundle)) if self.model.bundle else None

    @property
    def database_url(self) -> str:
        """The database, a relative SQLite file resolved. May hold a password: never print it."""
        url = self.storage.database
        if not url.startswith(SQLITE):
            return url
        return SQLITE + str(self._resolve(Path(url.removeprefix(SQLITE))))

    @property
    def database_file(self) -> Path | None:
        """SQLite's file, absolute; None: the database is a server's."""
        url = self.database_url
        return Path(url.removeprefix(SQLITE).partition("?")[0]) if url.startswith(SQLITE) else None

    @property
    def printable_database(self) -> str:
        """The database without its password."""
        return without_secrets(self.database_url)

    def low_water(self) -> LowWater:
        """What must stay free where images and their rows are written."""
        database = [] if self.database_file is None else [self.database_file.parent]
        return LowWater(
            folders=[self.inbox_folder, *database],
            minimum_free_bytes=self.storage.minimum_free_megabytes * MEGABYTE,
        )

    def policy(self) -> Policy:
        """What the site lets findings do."""
        return Policy(
            mode=self.worklist.mode,
            raise_to=Level[self.worklist.raise_to],
            severity=self.worklist.severity,
            maximum_wait={Level[name]: hours * HOUR for name, hours in self.worklist.maximum_wait_hours.items()},
        )

    def folders(self) -> dict[str, Path]:
        """The folders that must be writable, absolute, by the key that names them."""
        return {
            "storage.root": self._resolve(Path()),
            "storage.inbox": self.inbox_folder,
            "storage.outbox": self.outbox_folder,
            "storage.run": self.run_folder,
        }

    def prepare_folders(self) -> None:
        """Make the folders and try to write into each.

        Raises:
            ConfigurationError: one of them cannot be written.
            StorageError: not now: the disk is full or broken.
        """
        for key, folder in self.folders().items():
            require_writable(key, folder)

    def address(self, port_name: str) -> tuple[str, int]:
        """Host and port that we listen on for "dicom", "worklist" or "web"."""
        section: DicomSettings | WorklistSettings | WebSettings = getattr(self, port_name)
        return section.host, section.port

    def _resolve(self, path: Path) -> Path:
        return (self.storage.root.absolute() / path.expanduser()).absolute()


def load_settings(config: Path | None = None) -> Settings:
    """Read the file (if any; else the one named by CXR_TRIAGE_CONFIG), then the environment, which wins.

    Raises:
        ConfigurationError: it cannot be used; the message names the key, its value, the reason and what to do.
    """
    if config is None and (named := os.environ.get(CONFIG_VARIABLE)):
        config = Path(named)
    refuse_unknown_variables(os.environ, Settings, ENVIRONMENT_PREFIX, but=CONFIG_VARIABLE)
    tables = {} if config is None else _read_toml(config)
    try:
        settings = Settings(**tables)
    except ValidationError as error:
        raise ConfigurationError(explain(error, Settings, config)) from None
    except SettingsError as error:
        raise ConfigurationError(
            f"environment: {error}: lists and tables are written as JSON, for instance "
            f"{ENVIRONMENT_PREFIX}DICOM__ALLOWED_AE_TITLES='[\"CR1\"]'"
        ) from None
    base = Path.cwd() if config is None else config.absolute().parent
    root = (base / settings.storage.root.expanduser()).resolve()
    return settings.model_copy(update={"storage": settings.storage.model_copy(update={"root": root})})


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{config}: cannot be read ({error.strerror}): check --config and {CONFIG_VARIABLE}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config}: is not TOML: {without_secrets(str(error))}") from None


def _refuse_doubles(names: list[str]) -> None:
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ValueError(f"destination.name = {doubles[0]!r} is given twice: give each destination its own name")


def _require_commitment_destination(settings: Settings) -> None:
    titles = [modality.ae_title for modality in settings.modality]
    doubles = sorted({title for title in titles if titles.count(title) > 1})
    if doubles:
        raise ValueError(f"modality.ae_title = {doubles[0]!r} is given twice: one AE title has one address")
    if not settings.dicom.commitment:
        return
    named = settings.dicom.commitment_destination
    if named not in {destination.name for destination in settings.destination}:
        raise ValueError(
            f"dicom.commitment_destination = {named!r} names no [[destination]]: dicom.commitment = true needs the "
            "PACS that commits to the images, since modalities delete theirs on it"
        )
    if not titles:
        raise ValueError(
            "dicom.commitment = true, but there is no [[modality]]: add the address of each modality that is to be told"
        )


def _refuse_clashes(settings: Settings) -> None:
    ours: dict[str, DicomSettings | WorklistSettings | WebSettings] = {"dicom": settings.dicom, "web": settings.web}
    if settings.worklist.enabled:
        ours["worklist"] = settings.worklist
    taken: dict[int, list[tuple[str, str]]] = {}
    for name, section in ours.items():
        for other_name, other_host in taken.get(section.port, []):
            if overlap(section.host, other_host):
                raise ValueError(f"{name}.port = {section.port} is also {other_name}.port: give each its own port")
        taken.setdefault(section.port, []).append((name, section.host))
    for target in settings.destination:
        if (target.host, target.port) == (settings.dicom.host, settings.dicom.port):
            raise ValueError(f"destination {target.name!r} is our own DICOM port: name the PACS's address instead")


def require_writable(key: str, folder: Path) -> None:
    """Make the folder if it is missing, and try to write into it.

    Raises:
        ConfigurationError: it cannot be written.
        StorageError: not now: the disk is full or broken.
    """
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in PASSING:
            raise StorageError(f"{key} = {str(folder)!r} cannot be written now: {error.strerror}") from None
        raise ConfigurationError(
            f"{key} = {str(folder)!r} cannot be written ({error.strerror}): "
            "create it for the user that runs cxr-triage, or name another folder"
        ) from None
