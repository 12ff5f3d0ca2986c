"""What one value of the configuration may be; each refusal says why."""

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cxr_triage.model.findings import ABNORMALITY_BY_NAME
from cxr_triage.model.priority import Level

SQLITE: Final = "sqlite:///"
POSTGRES: Final = "postgresql+psycopg://"
HOUR: Final = timedelta(hours=1)
WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, never bound


def _ae_title(value: str) -> str:
    """PS3.5 6.2, VR AE: at most 16 characters of the default repertoire, no backslash, no control, not only spaces."""
    title = value.strip(" ")
    if not title:
        raise ValueError("an AE title needs at least one character that is not a space")
    if len(title) > 16:
        raise ValueError(f"an AE title has at most 16 characters (PS3.5 6.2), this one has {len(title)}")
    if "\\" in title or not all(" " <= character <= "~" for character in title):
        raise ValueError("an AE title has printable ASCII characters without backslash (PS3.5 6.2)")
    return title


#: Objects that show outlines; the others are reports.
_DRAWINGS = frozenset({"SEG", "PR", "SC"})


def _database(value: str) -> str:
    if value.startswith(SQLITE) and value.removeprefix(SQLITE).strip("/") not in {"", ":memory:"}:
        return value
    if value.startswith(POSTGRES):
        return value
    raise ValueError(f"write {SQLITE}FILE (not in memory: processes share it) or {POSTGRES}USER:PASSWORD@HOST/NAME")


def _level(value: str) -> str:
    if value not in Level.__members__:
        raise ValueError(f"write one of {', '.join(Level.__members__)}")
    return value


def _raise_to(value: str) -> str:
    if _level(value) == Level.STAT.name:
        raise ValueError("only a person gives STAT: write HIGH, ROUTINE, MEDIUM or LOW")
    return value


def _severity(weights: dict[str, float]) -> dict[str, float]:
    for label in weights:
        if label not in ABNORMALITY_BY_NAME:
            raise ValueError(f"unknown label {label!r}: write one of {', '.join(ABNORMALITY_BY_NAME)}")
    return weights


def _colour(value: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        raise ValueError("write a colour as #rrggbb, each pair hexadecimal: #ff5a5a")
    return value.lower()


def _description(value: str) -> str:
    """PS3.5 6.2, VR LO: at most 64 characters; a revision's number is added."""
    if not value.strip() or len(value) > 56 or "\\" in value or not value.isprintable():
        raise ValueError("a series description has 1 to 56 printable characters without backslash (PS3.5 6.2)")
    return value


def _meaning(value: str) -> str:
    """PS3.3 8.3, VR LO."""
    if not value.strip() or len(value) > 64 or "\\" in value or not value.isprintable():
        raise ValueError("a code meaning has 1 to 64 printable characters without backslash (PS3.3 8.3)")
    return value


def _stand_ins(following: dict[str, str]) -> dict[str, str]:
    """A report for a report, a drawing for a drawing, and an end to it."""
    for form, instead in following.items():
        if (form in _DRAWINGS) != (instead in _DRAWINGS):
            raise ValueError(f"{instead!r} does not say what {form!r} says: name one of the same sort")
        chain = [form]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise ValueError(f"{chain[-1]!r} would stand in for itself: leave one of them out")
    return following


def _stow_url(value: str) -> str:
    parts = urlsplit(value)
    is_address = re.fullmatch(r"[!-~]+", value) and parts.hostname and parts.port != 0 and not parts.query
    if not is_address or parts.scheme not in {"http", "https"}:
        raise ValueError("write the address of the Studies resource: https://HOST/PATH/studies")
    if parts.username or parts.password:
        raise ValueError(
            "a password in an address stands in logs: write it into the file that stow_password_file names"
        )
    return value


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Colour = Annotated[str, AfterValidator(_colour)]
Description = Annotated[str, AfterValidator(_description)]
Meaning = Annotated[str, AfterValidator(_meaning)]
ObjectName = Literal["SEG", "PR", "SC", "SR", "KO"]
FormName = Literal["SEG", "PR", "SC", "comprehensive 3d", "comprehensive", "basic text"]
StandIns = Annotated[dict[FormName, FormName], AfterValidator(_stand_ins)]
Host = Annotated[str, Field(min_length=1)]
StowUrl = Annotated[str, AfterValidator(_stow_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
SecondsOrZero = Annotated[float, Field(ge=0)]
MinutesOrZero = Annotated[float, Field(ge=0)]
Hours = Annotated[float, Field(gt=0)]
LevelName = Annotated[str, AfterValidator(_level)]
RaiseTo = Annotated[str, AfterValidator(_raise_to)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
Weight = Annotated[float, Field(ge=0, le=1)]
SeverityTable = Annotated[dict[str, Weight], AfterValidator(_severity)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_kept_secret(url: str) -> bool:
    """Whether nobody between this machine and a server reads what is said to it."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def overlap(host: str, other: str) -> bool:
    """Whether one port cannot be listened on at both addresses."""
    hosts = {"127.0.0.1" if name == "localhost" else name for name in (host, other)}
    return len(hosts) == 1 or not hosts.isdisjoint(WILDCARDS)


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
