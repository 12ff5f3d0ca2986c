"""What a destination is asked by DICOMweb: to store a finished file as it lies on disk (STOW-RS, PS3.18 10.5)."""

import base64
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from cxr_triage.daemon.dicom_client import (
    DUPLICATE_REJECTION_NOTE,
    DUPLICATE_SOP_INSTANCE,
    SUCCESS,
    Outcome,
    Part10File,
    outcome_of,
)
from cxr_triage.model.errors import (
    NotTakenError,
    OutOfResourcesError,
    RefusedError,
    ResultError,
    UnreachableError,
)

#: Longest answer that is read; one instance's takes a few hundred bytes.
LONGEST_ANSWER_BYTES: Final = 1 << 20
#: Digits of an unsigned short (PS3.5 6.2, VR US).
MOST_DIGITS: Final = 5
#: Bytes of a file that are read at once.
_CHUNK: Final = 1 << 16
#: Failure Reasons (0008,1197) of PS3.18 Table I.2-2 and PS3.7 C.5 by which a server does not support the SOP Class or
#: the transfer syntax; ours is the default one, so there is no other to try.
UNSUPPORTED: Final = frozenset({0x0122, 0xC122})
#: Failure Reason of Azure's DICOM service: an instance of this UID is there. Ours derive from content: it is this one.
ALREADY_STORED: Final = 0xB00E
#: Attributes of an answer (PS3.18 Table 10.5.3-2), as keys of the DICOM JSON Model (PS3.18 F.2).
_REFERENCED, _FAILED = "00081199", "00081198"
_INSTANCE, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"
#: Statuses of HTTP (RFC 9110 15) that say nothing against the object, and what to do about them.
_ABOUT_US: Final[Mapping[int, str]] = {
    401: "it does not know us: check its token or password file",
    403: "we may not store there: check its token or password file, and our rights",
    404: "nothing is there: check stow_url, which mostly ends in /studies",
    405: "nothing can be stored there: check stow_url, which mostly ends in /studies",
    406: "it does not answer in DICOM JSON",
    407: "a proxy wants a password",
}
#: The same, and it may pass by itself (RFC 9110 15.5.9, 15.6; RFC 6585 4; RFC 4918 11.5).
_PASSING: Final = frozenset({408, 429, 503, 507})


@dataclass(frozen=True, kw_only=True, slots=True)
class StowTransport:
    """A destination that is sent to by STOW-RS."""

    #: Of its Studies resource.
    url: str
    #: Files with a bearer token (RFC 6750), or with USER:PASSWORD (RFC 7617), read anew for each exchange.
    token_file: Path | None = None
    password_file: Path | None = None
    #: PEM file of the authorities that may vouch for it; None: those of this machine.
    ca_file: Path | None = None
    #: Longest wait for the connection, seconds.
    connect_timeout_seconds: float = 10
    #: Longest wait for an answer, and then for its end, seconds.
    answer_timeout_seconds: float = 60
    #: Longest silence while we send, seconds.
    network_timeout_seconds: float = 60

    def __str__(self) -> str:
        """Name it for messages."""
        return self.url

    def verify(self) -> None:
        """Send a message without an instance: it stores nothing, and is answered by who would answer to one.

        What is meant for such questions (OPTIONS, PS3.18 8.9) is not answered by every server that stores.

        Raises:
            UnreachableError: it is not there, or does not let us in.
        """
        boundary = _boundary()
        tail = _tail(boundary)
        headers = _multipart(boundary) | {"Content-Length": str(len(tail))}
        with self._client() as client, _answered_in_time(self, client) as sent:
            request = client.build_request("POST", self.address(), content=_sending(tail, sent), headers=headers)
            status, _ = _exchange(self, request, client)
        _require_a_server(self, status)

    @contextmanager
    def session(self, files: Sequence[Part10File]) -> Iterator["StowSession"]:
        """Use one connection for these files.

        Raises:
            UnreachableError: its credentials or authorities cannot be read.
        """
        del files  # HTTP agrees upon nothing in advance
        with self._client() as client:
            yield StowSession(self, client)

    def address(self) -> httpx.URL:
        """Give the address as the library reads it.

        Raises:
            UnreachableError: it cannot.
        """
        try:
            address = httpx.URL(self.url)
            _ = address.host  # decoded only here
        except (httpx.InvalidURL, UnicodeError):
            raise UnreachableError(f"{self} is no address: check stow_url") from None
        return address

    def _client(self) -> httpx.Client:
        timeout = httpx.Timeout(
            connect=self.connect_timeout_seconds,
            read=self.answer_timeout_seconds,
            write=self.network_timeout_seconds,
            pool=self.connect_timeout_seconds,
        )
        return httpx.Client(
            headers={
                "Accept": "application/dicom+json",
                "Accept-Encoding": "identity",
                "User-Agent": f"cxr-triage/{version('cxr-triage')}",
                **self._authorization(),
            },
            timeout=timeout,
            verify=self._tls(),
            # Neither another proxy nor other credentials than those that are configured.
            trust_env=False,
        )

    def _tls(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise UnreachableError(
                f"{self} cannot be verified: {self.ca_file} is no PEM file that we can read"
            ) from error

    def _authorization(self) -> dict[str, str]:
        if self.token_file is not None:
            return {"Authorization": f"Bearer {self._secret(self.token_file)}"}
        if self.password_file is not None:
            return {"Authorization": f"Basic {base64.b64encode(self._secret(self.password_file).encode()).decode()}"}
        return {}

    def _secret(self, path: Path) -> str:
        """Read a file whose content must stand in no message."""
        try:
            content = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UnreachableError(f"{self} cannot be asked: {path} cannot be read") from None
        if not content or not content.isprintable() or (path == self.token_file and not _is_token(content)):
            raise UnreachableError(f"{self} cannot be asked: {path} must hold one line, and nothing else")
        return content


class StowSession:
    """A connection on which objects are stored, each by a request of its own."""

    def __init__(self, transport: StowTransport, client: httpx.Client) -> None:
        self._transport = transport
        self._client = client

    @property
    def is_open(self) -> bool:
        """Whether another object may be offered: a connection that was closed is opened again."""
        return True

    def store(self, file: Part10File) -> int:
        """Send a file as it is, and look in the answer whether it was stored.

        Returns:
            The warning reason under which it was stored; 0: without a warning.

        Raises:
            UnreachableError: no answer, or (OutOfResourcesError) one that may be another one later.
            RefusedError: the destination does not take it: not its class (NotTakenError), or not this one.
            ResultError: the file cannot be read.
        """
        boundary = _boundary()
        head, tail = _head(boundary), _tail(boundary)
        try:
            size = len(head) + file.path.stat().st_size + len(tail)
            with _answered_in_time(self._transport, self._client) as sent:
                request = self._client.build_request(
                    "POST",
                    self._transport.address(),
                    content=_body(head, file.path, tail, sent),
                    headers=_multipart(boundary) | {"Content-Length": str(size)},
                )
                status, content = _exchange(self._transport, request, self._client)
        except OSError as error:
            raise ResultError(f"{file.path.name} cannot be read ({error.strerror})") from error
        return _outcome(self._transport, file, status, content)


def _boundary() -> str:
    """What separates the parts of a message: 128 random bits, which no file of ours has in it."""
    return secrets.token_hex(16)


def _multipart(boundary: str) -> dict[str, str]:
    return {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}'}


def _head(boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()


def _tail(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode()


def _body(head: bytes, path: Path, tail: bytes, sent: Callable[[], None]) -> Iterator[bytes]:
    """A message of one part (PS3.18 8.6.1.2.1), without holding the file in memory; `sent` is called when it is out."""
    yield head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
    yield from _sending(tail, sent)


def _sending(tail: bytes, sent: Callable[[], None]) -> Iterator[bytes]:
    yield tail
    sent()


@contextmanager
def _answered_in_time(transport: StowTransport, client: httpx.Client) -> Iterator[Callable[[], None]]:
    """Give what starts the time for an answer, head and content; past it the connection is closed beneath its reader.

    The library's own limits are on the silence between two bytes: a server that sends one now and then would hold us.
    """
    timer = threading.Timer(2 * transport.answer_timeout_seconds, client.close)
    timer.daemon = True
    try:
        yield timer.start
    finally:
        timer.cancel()


def _exchange(transport: StowTransport, request: httpx.Request, client: httpx.Client) -> tuple[int, bytes]:
    """Send a request; status and content of its answer.

    Raises:
        UnreachableError: there is none, or it does not end.
        OSError: what is to be sent cannot be read.
    """
    try:
        answer = client.send(request, stream=True)
        try:
            return answer.status_code, _read(transport, answer)
        finally:
            answer.close()
    except httpx.ConnectError as error:
        raise UnreachableError(f"{transport} cannot be reached ({error})") from error
    except httpx.TimeoutException as error:
        raise UnreachableError(f"{transport} gave no answer in time ({type(error).__name__})") from error
    except httpx.HTTPError as error:  # its words may be those of a header
        raise UnreachableError(f"{transport} gave no answer ({type(error).__name__})") from None


def _read(transport: StowTransport, answer: httpx.Response) -> bytes:
    until = time.monotonic() + transport.answer_timeout_seconds
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > LONGEST_ANSWER_BYTES:
            raise UnreachableError(f"{transport} gave an answer that is longer than any should be")
        if time.monotonic() > until:
            raise UnreachableError(f"{transport} did not end its answer in time")
    return bytes(content)


def _outcome(transport: StowTransport, file: Part10File, status: int, content: bytes) -> int:
    """Say what became of an instance: by what the answer says of it, else by its status (PS3.18 Table 10.5.3-1)."""
    answer = _parsed(content)
    failed = _item_of(answer, _FAILED, file)
    if failed is not None:
        return _failure(transport, file, _number(failed, _FAILURE_REASON))
    stored = _item_of(answer, _REFERENCED, file)
    if stored is not None and status in {200, 202}:
        return _number(stored, _WARNING_REASON) or SUCCESS
    _require_a_server(transport, status)
    if status == 415:
        raise NotTakenError(f"{transport} answered with status 415: it does not take this media type")
    if status >= 400:
        raise RefusedError(f"{transport} answered with status {status}")
    raise UnreachableError(f"{transport} answered with status {status}, and does not say that it has the object")


def _failure(transport: StowTransport, file: Part10File, reason: int | None) -> int:
    """Judge a Failure Reason as the C-STORE status that it is named after."""
    if reason is None:
        raise RefusedError(f"{transport} did not store it, and gives no reason")
    told = f"{transport} did not store it (Failure Reason 0x{reason:04X})"
    if reason in {ALREADY_STORED, DUPLICATE_SOP_INSTANCE}:
        return reason
    if reason in UNSUPPORTED:
        raise NotTakenError(f"{told}: not supported")
    outcome = outcome_of(reason, file.sop_class_uid)
    if reason == DUPLICATE_REJECTION_NOTE and outcome is Outcome.STORED:
        return reason
    if outcome is Outcome.LATER:
        raise OutOfResourcesError(told)
    raise RefusedError(told)


def _require_a_server(transport: StowTransport, status: int) -> None:
    """Raise where a status is about the destination or us, and not about an object."""
    told = f"{transport} answered with status {status}"
    if status in _PASSING:
        raise OutOfResourcesError(f"{told}: not now")
    if status in _ABOUT_US:
        raise UnreachableError(f"{told}: {_ABOUT_US[status]}")
    if 300 <= status < 400:
        raise UnreachableError(f"{told}: it is elsewhere, write its new address into stow_url")
    if status >= 500:
        raise UnreachableError(told)


def _parsed(content: bytes) -> dict[str, Any]:
    """Read an answer in the DICOM JSON Model; some servers put it into a list. What is none says nothing."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    return answer if isinstance(answer, dict) else {}


def _item_of(answer: dict[str, Any], sequence: str, file: Part10File) -> dict[str, Any] | None:
    """Find what a sequence says of an instance."""
    named = (item for item in _values(answer, sequence) if isinstance(item, dict))
    return next((item for item in named if file.sop_instance_uid in _values(item, _INSTANCE)), None)


def _number(item: dict[str, Any], attribute: str) -> int | None:
    for value in _values(item, attribute):
        if isinstance(value, int) and 0 <= value <= 0xFFFF:
            return value
        # Some servers write a number as a string.
        if isinstance(value, str) and len(value) <= MOST_DIGITS and value.isdecimal():
            return int(value)
    return None


def _values(item: dict[str, Any], attribute: str) -> list[Any]:
    element = item.get(attribute)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _is_token(content: str) -> bool:
    """Whether it can stand in a header (RFC 6750 2.1)."""
    return content.isascii() and " " not in content
