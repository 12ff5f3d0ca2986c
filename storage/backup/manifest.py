"""The manifest: what a backup consists of. It is written last, so that a folder without one is no backup."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, cast

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.backup.files import write_durably
from cxr_triage.storage.upkeep_records import Place

NAME: Final = "manifest.json"
#: Raised when an older version could not read what a newer one writes.
FORMAT: Final = 1
#: How the name of a backup's ledger begins; each backup has a new one, so that the one before stays whole.
LEDGER_PREFIX: Final = "ledger-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A file of the backup."""

    #: "" = the ledger itself, in the backup's own folder.
    place: Place | Literal[""]
    #: Relative to the place, as in the ledger's row.
    path: str
    size_bytes: int
    #: SHA-256 of the whole file, lower-case hex.
    sha256: str

    @property
    def owner(self) -> Place:
        """The place that it belongs to, of a file that is not the ledger."""
        assert self.place
        return self.place

    def below(self, folder: Path) -> Path:
        """Where it is in a backup's folder."""
        return folder / self.place / self.path


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A file that a row owned and that could not be taken: the backup's row says so too."""

    place: Place
    path: str
    sop_instance_uid: str
    #: "damaged": its data set is not the one that its row tells of.
    problem: Literal["missing", "damaged", "unreadable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One backup."""

    #: Of this software.
    version: str
    #: Revision of the schema.
    schema: str
    #: When the snapshot of the database was taken, UTC.
    made_at: datetime
    #: The database that it is of, without a password.
    database: str
    ledger: Kept
    #: Rows by table.
    counts: Mapping[str, int]
    files: tuple[Kept, ...]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def all_files(self) -> tuple[Kept, ...]:
        """The ledger, and every image and object."""
        return (self.ledger, *self.files)


def write(manifest: Manifest, folder: Path) -> None:
    """Make a folder that manifest's backup; the one that was there before is no longer one.

    Raises:
        OSError: it could not be written; the folder is still the backup that it was.
    """
    content = {"format": FORMAT, **asdict(manifest), "made_at": manifest.made_at.isoformat()}
    content["sha256"] = _digest(content)
    write_durably(folder / NAME, json.dumps(content, indent=1).encode())


def read(folder: Path) -> Manifest:
    """Read the manifest of a backup.

    Raises:
        StorageError: there is none, it is damaged, or a newer version wrote it.
    """
    content = _content(folder)
    if content.get("format") != FORMAT:
        raise newer(str(content.get("version")))
    if content.pop("sha256", None) != _digest(content):
        raise _damaged(folder)
    try:
        manifest = _from(content)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder) from error
    for kept in manifest.all_files:
        _require_within(kept, folder)
    return manifest


def exists(folder: Path) -> bool:
    """Whether a folder is a backup."""
    return (folder / NAME).exists()


def newer(version: str) -> StorageError:
    """Say that only another version can restore a backup."""
    return StorageError(f"the backup was made by a newer version ({version}): restore it with that version")


def _content(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        raise StorageError(
            f"{folder} has no {NAME}, so it is no backup, or one that was not finished: name another folder"
        ) from None
    except OSError as error:
        raise StorageError(f"{folder / NAME} cannot be read ({error.strerror}): check its owner and disk") from error
    except ValueError:
        raise _damaged(folder) from None
    if not isinstance(content, dict):
        raise _damaged(folder)
    return cast("dict[str, Any]", content)


def _from(content: dict[str, Any]) -> Manifest:
    return Manifest(
        version=str(content["version"]),
        schema=str(content["schema"]),
        made_at=datetime.fromisoformat(content["made_at"]),
        database=str(content["database"]),
        ledger=Kept(**content["ledger"]),
        counts={str(table): int(count) for table, count in content["counts"].items()},
        files=tuple(Kept(**each) for each in content["files"]),
        problems=tuple(Problem(**each) for each in content["problems"]),
    )


def _digest(content: Mapping[str, Any]) -> str:
    """Of everything but the digest itself, so that a damaged manifest is told from a whole one."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _damaged(folder: Path) -> StorageError:
    return StorageError(f"{folder / NAME} is damaged: use another backup")


def _require_within(kept: Kept, folder: Path) -> None:
    """A path leads to nowhere else, whoever wrote the manifest."""
    path = PurePosixPath(kept.path)
    if kept.place not in {"", "inbox", "outbox"} or path.is_absolute() or ".." in path.parts or not path.parts:
        raise _damaged(folder)
