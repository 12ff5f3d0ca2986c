"""A DICOMweb server whose answers a test decides, by http or https."""

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from peers import LOOPBACK

#: Attributes of an answer, as keys of the DICOM JSON Model (PS3.18 F.2).
FAILED, REFERENCED = "00081198", "00081199"
#: What it does with a request, besides noting it.
Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request, and how it is answered."""

    server: "_Server"
    protocol_version = "HTTP/1.1"
    #: SOP Instance UID of its one part; empty: it has none.
    uid = ""
    body = b""

    def do_POST(self) -> None:
        """Read it, note it, answer it."""
        web = self.server.web
        web.headers.append(dict(self.headers))
        if web.before_body is not None:
            web.before_body(self)
            return
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.uid = _uid_of(self.body, self.headers["Content-Type"])
        web.bodies.append(self.body)
        web.answer(self)

    def say(self, status: int, content: bytes, media_type: str = "application/dicom+json") -> None:
        """Answer."""
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the library
        """Be silent."""


class _Server(ThreadingHTTPServer):
    web: "Web"
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent: peers that hang up are what is tested."""


def says(status: int, *, sequence: str = REFERENCED, reason: int | None = None, uid: str | None = None) -> Answer:
    """Answer in the DICOM JSON Model about what was sent, or about another instance."""

    def answer(request: Request) -> None:
        item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid or request.uid]}}
        if reason is not None:
            item["00081197" if sequence == FAILED else "00081196"] = {"vr": "US", "Value": [reason]}
        request.say(status, json.dumps({sequence: {"vr": "SQ", "Value": [item]}}).encode())

    return answer


def plainly(status: int, content: bytes = b"", media_type: str = "text/plain") -> Answer:
    """Answer with this, whatever was sent."""
    return lambda request: request.say(status, content, media_type)


def cut(request: Request) -> None:
    """End the connection without an answer."""
    request.close_connection = True
    request.connection.close()


@dataclass
class Web:
    """A server; a test changes what it answers while it runs."""

    answer: Answer = field(default_factory=lambda: says(200))
    #: What it does before it has read a body.
    before_body: Answer | None = None
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @contextmanager
    def serving(self, certificate: Path | None = None) -> Iterator[str]:
        """Serve; gives the address of the Studies resource."""
        server = _Server((LOOPBACK, 0), Request)
        server.web = self
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield f"{'https' if certificate else 'http'}://{LOOPBACK}:{server.server_address[1]}/dicom-web/studies"
        finally:
            server.shutdown()
            serving.join()
            server.server_close()


def certificate(folder: Path, name: str) -> Path:
    """Make a certificate for a host or an IP address, with its key, as one PEM file: its own authority."""
    file = folder / f"{name.replace(':', '-')}.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"),
        *("-addext", f"subjectAltName={name}", "-keyout", str(file), "-out", f"{file}.crt"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with file.open("ab") as joined:
        joined.write(Path(f"{file}.crt").read_bytes())
    return file


def _uid_of(body: bytes, content_type: str) -> str:
    """Read the one part of a message as a receiver does (RFC 2046 5.1.1)."""
    boundary = content_type.rpartition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)[1:-1]
    if not parts:
        return ""
    (part,) = parts
    content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    return str(dcmread(DicomBytesIO(content), stop_before_pixels=True).SOPInstanceUID)
