"""The OpenAPI document: as the routes are, as the page is, and as schemathesis finds the service to be."""

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from cxr_triage.daemon.heartbeat import beating
from cxr_triage.daemon.service import enabled_roles, processes
from cxr_triage.daemon.web.app import create_app
from cxr_triage.storage.database import Database
from worklists import Client, serving, settings_of

TESTS = Path(__file__).parent
#: Requests that it makes up for each operation, besides those that it has by rule.
EXAMPLES = 10
SEED = 20260105


def _routed(app: Starlette) -> set[tuple[str, str]]:
    """Every method on every path that the application answers; HEAD goes with GET."""
    routes = [route for route in app.routes if isinstance(route, Route)]
    return {(method, route.path) for route in routes for method in route.methods or () if method != "HEAD"}


@pytest.mark.parametrize("ups", [True, False])
def test_the_document_says_what_is_routed(tmp_path: Path, sqlite_database: Database, *, ups: bool) -> None:
    """No more and no less, whatever is switched on."""
    settings = settings_of(tmp_path)
    own = settings.model_copy(update={"web": settings.web.model_copy(update={"ups": ups})})
    document = Client(own, sqlite_database).ask("GET", "/openapi.json").json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert told == _routed(create_app(own, sqlite_database))
    assert ("/workitems" in document["paths"]) is ups


def test_every_operation_has_a_name_of_its_own(tmp_path: Path, sqlite_database: Database) -> None:
    """Clients are made of them, and every variable of a path is a parameter."""
    document = Client(settings_of(tmp_path), sqlite_database).ask("GET", "/openapi.json").json()
    operations = [(path, each) for path, methods in document["paths"].items() for each in methods.values()]
    names = [each["operationId"] for _, each in operations]
    assert len(set(names)) == len(names) == 16
    for path, each in operations:
        variables = [p["name"] for p in each.get("parameters", ()) if p["in"] == "path"]
        assert variables == re.findall(r"{(\w+)}", path)
        assert each["responses"]


def test_the_page_needs_nothing_from_anywhere(tmp_path: Path, sqlite_database: Database) -> None:
    """It shows every operation, with no script and no address of another machine."""
    client = Client(settings_of(tmp_path), sqlite_database)
    page = client.ask("GET", "/api")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for path in client.ask("GET", "/openapi.json").json()["paths"]:
        assert path in page.text
    assert re.findall(r"(?:src|href)=['\"]?([^'\" >]+)", page.text) == ["/openapi.json"]
    assert "<script" not in page.text


def test_schemathesis_finds_nothing(tmp_path: Path, sqlite_url: str) -> None:
    """No answer that the document does not have, nothing wrong taken, nothing right refused, no fault of ours."""
    settings = settings_of(tmp_path, database_url=sqlite_url)
    told = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(TESTS)}
    with ExitStack() as alive, serving(settings) as base:
        for role in enabled_roles(settings):
            for process in processes(role, settings):
                alive.enter_context(beating(settings.run_folder, process, settings.service.heartbeat_seconds))
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(TESTS / "schemathesis.toml")),
            *("run", f"{base}/openapi.json", "--seed", str(SEED), "--max-examples", str(EXAMPLES), "--no-color"),
        ]
        done = subprocess.run(  # noqa: PLW1510 - what it found is in what it prints
            command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | told, timeout=240
        )
    assert done.returncode == 0, done.stdout
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) == 15  # all but the document's own, which it has read
