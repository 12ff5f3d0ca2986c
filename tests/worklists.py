"""The Worklist Service over HTTP, as its clients see it: requests without a port, and a server on one."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.daemon.web.app import WebRole, create_app
from cxr_triage.daemon.web.schemas import NEW_WORKITEM
from cxr_triage.storage.database import Database
from peers import LOOPBACK, free_port, running

#: PS3.18 Table 11.10.1-1: stands for all Workitems.
WORKLIST = "1.2.840.10008.5.1.4.34.5"
FILTERED_WORKLIST = "1.2.840.10008.5.1.4.34.5.1"
SUBSCRIBER = "READER"
STEP = "1.2.826.0.1.3680043.10.9"
CLAIM = "2.25.1234"
JSON = {"Content-Type": "application/dicom+json"}
#: What the performer of a Workitem must have set before it is complete (PS3.4 Table CC.2.5-3, P).
CODE = {
    "00080100": {"vr": "SH", "Value": ["110005"]},
    "00080102": {"vr": "SH", "Value": ["DCM"]},
    "00080104": {"vr": "LO", "Value": ["Interpretation"]},
}
PERFORMED = {
    "00741216": {
        "vr": "SQ",
        "Value": [
            {
                "00404019": {"vr": "SQ", "Value": [CODE]},
                "00404028": {"vr": "SQ", "Value": [CODE]},
                "00404033": {"vr": "SQ"},
                "00404050": {"vr": "DT", "Value": ["20260105083000"]},
                "00404051": {"vr": "DT", "Value": ["20260105084000"]},
            }
        ],
    }
}


def settings_of(folder: Path, *lines: str, database_url: str = "") -> Settings:
    """Give a service that serves its worklist by HTTP, on a free port."""
    file = folder / "worklist.toml"
    told = "\n".join(("[web]", f"port = {free_port()}", "ups = true", f'ups_subscribers = ["{SUBSCRIBER}"]', *lines))
    file.write_text(f'{told}\n[storage]\ndatabase = "{database_url}"\n' if database_url else f"{told}\n")
    loaded = load_settings(file)
    loaded.prepare_folders()
    return loaded


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve by HTTP; gives the service's base URI."""
    with running(WebRole(settings).run):
        yield f"http://{LOOPBACK}:{settings.web.port}"


@dataclass
class Client:
    """Asks without a port."""

    settings: Settings
    database: Database

    def __post_init__(self) -> None:
        """Make the application once."""
        self._app = create_app(self.settings, self.database)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """Send one request; a body that is no bytes is sent as DICOM JSON; `content_type` stands for Content-Type."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if body is not None:
            named = {"content-type": "application/dicom+json", **named}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{LOOPBACK}:8080") as client:
                return await client.request(method, path, content=content, headers=named)

        return asyncio.run(ask())

    def create(self, uid: str = STEP, attributes: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Create a Workitem with these attributes besides those that it must have."""
        assert self.ask("POST", f"/workitems?{uid}", {**NEW_WORKITEM, **attributes}).status_code == 201

    def change(self, state: str, uid: str = STEP, *, claim: str | None = CLAIM, by: str = "") -> httpx.Response:
        """Change a Workitem's state."""
        body: dict[str, Any] = {"00741000": {"vr": "CS", "Value": [state]}}
        if claim is not None:
            body["00081195"] = {"vr": "UI", "Value": [claim]}
        return self.ask("PUT", f"/workitems/{uid}/state{by and '/'}{by}", body)

    def bring_to(self, state: str, uid: str = STEP) -> None:
        """Create a Workitem, and bring it to a state."""
        self.create(uid)
        if state == "SCHEDULED":
            return
        assert self.change("IN PROGRESS", uid).status_code == 200
        if state == "COMPLETED":
            assert self.ask("POST", f"/workitems/{uid}?{CLAIM}", PERFORMED).status_code == 200
        if state != "IN PROGRESS":
            assert self.change(state, uid).status_code == 200

    def state(self, uid: str = STEP) -> str:
        """Give a Workitem's state."""
        (workitem,) = self.ask("GET", f"/workitems/{uid}").json()
        return str(workitem["00741000"]["Value"][0])


def warnings_of(answer: httpx.Response) -> list[str]:
    """Give the texts of a response's Warning header fields."""
    start = f"299 http://{LOOPBACK}:8080: "
    texts = answer.headers.get_list("warning")
    assert all(text.startswith(start) for text in texts)
    return [text.removeprefix(start) for text in texts]
