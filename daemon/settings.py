"""TOML and environment -> frozen settings, validated before anything starts."""

import errno
import os
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from cxr_triage.daemon.emission import profiles_of
from cxr_triage.daemon.results.profiles import PROFILES, Profile
from cxr_triage.daemon.setting_errors import explain, refuse_unknown_variables, without_secrets
from cxr_triage.daemon.setting_peers import (
    DeliverSettings,
    Destination,
    DicomSettings,
    EmissionProfile,
    Modality,
    RisSettings,
    UpsSubscriber,
)
from cxr_triage.daemon.setting_sections import (
    InferSettings,
    LogSettings,
    ModelSettings,
    ReportSettings,
    ServiceSettings,
    StorageSettings,
    UpkeepSettings,
    WebSettings,
    WorklistSettings,
)
from cxr_triage.daemon.setting_types import HOUR, SQLITE, is_loopback, overlap
from cxr_triage.model.bundle import read_card
from cxr_triage.model.errors import MACHINE_FAULTS, ConfigurationError, StorageError
from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.space import MEGABYTE, LowWater

ENVIRONMENT_PREFIX: Final = "CXR_TRIAGE_"
CONFIG_VARIABLE: Final = "CXR_TRIAGE_CONFIG"
#: What may keep a folder from being written without anybody having to change the configuration.
PASSING: Final = MACHINE_FAULTS - {errno.EACCES, errno.EPERM, errno.EROFS}


class Settings(BaseSettings):
    """Everything that a site decides."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    dicom: DicomSettings = DicomSettings()
    storage: StorageSettings = StorageSettings()
    model: ModelSettings = ModelSettings()
    destination: tuple[Destination, ...] = ()
    profile: tuple[EmissionProfile, ...] = ()
    modality: tuple[Modality, ...] = ()
    worklist: WorklistSettings = WorklistSettings()
    ups_subscriber: tuple[UpsSubscriber, ...] = ()
    ris: RisSettings = RisSettings()
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
        _refuse_doubles(
            "destination.name", [each.name for each in self.destination], "give each destination its own name"
        )
        for table, peers in (("modality", self.modality), ("ups_subscriber", self.ups_subscriber)):
            titles = [peer.ae_title for peer in peers]
            _refuse_doubles(f"{table}.ae_title", titles, "one AE title has one address")
        _require_profiles(self)
        _refuse_clashes(self)
        _require_commitment_destination(self)
        _refuse_own_ris(self)
        _refuse_two_ways([subscriber.ae_title for subscriber in self.ups_subscriber], self.web.ups_subscribers)
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
    def profiles(self) -> Mapping[str, Profile]:
        """Emission profiles by name."""
        return profiles_of(self.profile, self._resolve)

    @property
    def committing(self) -> frozenset[str]:
        """Names of the destinations where an object counts as delivered only once they have committed to it."""
        return frozenset(destination.name for destination in self.destination if destination.commitment)

    @property
    def rejecting(self) -> frozenset[str]:
        """Names of the destinations that are sent rejection notes."""
        return frozenset(destination.name for destination in self.destination if destination.rejection_notes)

    @property
    def asked_for_commitment(self) -> frozenset[str]:
        """Names of the destinations that are asked for storage commitment: to results, to images, or to both."""
        images = {self.dicom.commitment_destination} if self.dicom.commitment else set()
        return self.committing | images

    @property
    def own_ae_titles(self) -> frozenset[str]:
        """What this service calls itself: whoever orders under such a name is fed by our own list."""
        titles = (self.dicom.ae_title, self.worklist.ae_title, self.ris.calling_ae_title)
        return frozenset(title for title in titles if title is not None)

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

    def stow_files(self, destination: Destination) -> dict[str, Path | None]:
        """The files that a destination's settings for STOW-RS name, absolute, by key."""
        named = {key: getattr(destination, key) for key in ("stow_token_file", "stow_password_file", "stow_ca_file")}
        return {key: self._resolve(path) if path else None for key, path in named.items()}

    def low_water(self) -> LowWater:
        """What must stay free where images and their rows are written."""
        database = [] if self.database_file is None else [self.database_file.parent]
        return LowWater(
            folders=[self.inbox_folder, *database],
            minimum_free_bytes=self.storage.minimum_free_megabytes * MEGABYTE,
        )

    def policy(self) -> Policy:
        """What the site lets findings do: those of labels that the bundle is not good enough at only if it says so.

        Raises:
            BundleError: the bundle's card cannot be read.
        """
        unfit = dict.fromkeys(read_card(self.bundle_folder).not_for_triage, 0.0)
        return Policy(
            mode=self.worklist.mode,
            raise_to=Level[self.worklist.raise_to],
            severity=unfit | self.worklist.severity,
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


def _refuse_doubles(setting: str, values: Sequence[str], rule: str) -> None:
    doubles = sorted({value for value in values if values.count(value) > 1})
    if doubles:
        raise ValueError(f"{setting} = {doubles[0]!r} is given twice: {rule}")


def _refuse_two_ways(by_dimse: Sequence[str], by_websocket: Sequence[str]) -> None:
    both = sorted(set(by_dimse).intersection(by_websocket))
    if both:
        raise ValueError(
            f"web.ups_subscribers = {both[0]!r} is also an ups_subscriber.ae_title: one AE title is told in one way"
        )


def _require_profiles(settings: Settings) -> None:
    names = [own.name for own in settings.profile]
    taken = sorted({name for name in names if names.count(name) > 1 or name in PROFILES})
    if taken:
        raise ValueError(f"profile.name = {taken[0]!r} is taken: give each profile a name of its own")
    known = [*PROFILES, *names]
    for destination in settings.destination:
        if destination.profile not in known:
            raise ValueError(f"destination.profile = {destination.profile!r}: write one of {', '.join(known)}")


def _require_commitment_destination(settings: Settings) -> None:
    if not settings.dicom.commitment:
        return
    named = settings.dicom.commitment_destination
    if named in {destination.name for destination in settings.destination if destination.stow_url}:
        raise ValueError(
            f"dicom.commitment_destination = {named!r} is reached by STOW-RS, which knows no storage commitment: name "
            "a [[destination]] with ae_title, host and port"
        )
    if named not in {destination.name for destination in settings.destination}:
        raise ValueError(
            f"dicom.commitment_destination = {named!r} names no [[destination]]: dicom.commitment = true needs the "
            "PACS that commits to the images, since modalities delete theirs on it"
        )
    if not settings.modality:
        raise ValueError(
            "dicom.commitment = true, but there is no [[modality]]: add the address of each modality that is to be told"
        )


def _refuse_own_ris(settings: Settings) -> None:
    ris = settings.ris
    if ris.host is None:
        return
    own: dict[str, DicomSettings | WorklistSettings] = {"dicom": settings.dicom, "worklist": settings.worklist}
    for name, section in own.items():
        if ris.port == section.port and overlap(ris.host, section.host):
            raise ValueError(
                f"ris.port = {ris.port} is our own {name} port: our list must not come back as orders; name the RIS"
            )
    if ris.ae_title in settings.own_ae_titles:
        raise ValueError(f"ris.ae_title = {ris.ae_title!r} is our own: our list must not come back as orders")


def _refuse_clashes(settings: Settings) -> None:
    ours: dict[str, DicomSettings | WorklistSettings | WebSettings] = {"dicom": settings.dicom, "web": settings.web}
    if settings.worklist.is_open:
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
