"""The rooms: who may import whom, and which library lives where. Read from the source, so nothing is run."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("daemon", "model", "storage", "training")

#: Imports run one way: model <- storage <- daemon, model <- training.
MAY_IMPORT = {
    "model": {"model"},
    "storage": {"storage", "model"},
    "daemon": {"daemon", "storage", "model"},
    "training": {"training", "model"},
}

#: Library -> the files and folders (with a slash at the end) that may import it.
LIVES_IN = {
    "sqlalchemy": ["storage/"],
    "alembic": ["storage/"],
    "psycopg": ["storage/"],
    "pynetdicom": [
        "daemon/receive.py",
        "daemon/deliver.py",
        "daemon/commitment/",
        "daemon/conformance/",
        "daemon/dicom_client.py",
        "daemon/dicom_server.py",
        "daemon/ups/announcing.py",
        "daemon/ups/port.py",
        "daemon/worklist/",
        "daemon/orders/asking.py",
        "daemon/demo/",
    ],
    "highdicom": ["daemon/results/", "daemon/conformance/terms.py"],
    "httpx": ["daemon/dicom_web.py"],
    "apscheduler": ["daemon/upkeep.py", "daemon/rhythm.py"],
    "pebble": ["daemon/isolation.py"],
    "starlette": ["daemon/web/"],
    "uvicorn": ["daemon/web/"],
    "prometheus_client": ["daemon/web/"],
    "defusedxml": ["daemon/web/ups/"],
    "pydantic": [
        "daemon/settings.py",
        "daemon/setting_peers.py",
        "daemon/setting_sections.py",
        "daemon/setting_types.py",
        "daemon/setting_errors.py",
        "daemon/reference.py",
        "daemon/simulation/scenario.py",
    ],
    "pydantic_settings": ["daemon/settings.py"],
    "torch": [
        "model/devices.py",
        "model/features.py",
        "model/misplacement.py",
        "model/network.py",
        "model/pose.py",
        "model/predictor.py",
        "model/preparation.py",
        "training/",
    ],
    "jinja2": ["training/evaluation/report.py"],
    "matplotlib": ["training/evaluation/", "daemon/simulation/plots.py"],
    "monai": ["model/network.py", "training/evaluation/segmentation.py", "training/pretrained.py"],
    "safetensors": ["model/predictor.py", "training/"],
    # The daemon configures it in one place, and its other modules ask that place for a logger.
    "structlog": ["daemon/logs.py", "training/"],
}


def _sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module with its line; relative ones start with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def _where(path: Path, line: int, module: str) -> str:
    return f"{path.relative_to(ROOT)}:{line} imports {module}"


def test_imports_run_one_way() -> None:
    """Nothing imports the daemon or the training; the training never sees the storage."""
    wrong = [
        _where(path, line, module)
        for path in _sources()
        for line, module in _imports(path)
        if module.startswith("cxr_triage.") and module.split(".")[1] not in MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    ]
    assert wrong == []


def test_imports_are_absolute_and_by_the_installed_name() -> None:
    """A bare `import model` would make a second copy of every class; relative imports hide the room."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    wrong = [
        _where(path, line, module)
        for path in [*_sources(), *tests]
        for line, module in _imports(path)
        if module.startswith(".") or module.split(".")[0] in ROOMS
    ]
    assert wrong == []


@pytest.mark.parametrize("library", LIVES_IN)
def test_one_library_one_room(library: str) -> None:
    """A library is imported where it lives, and nowhere else."""
    wrong = [
        _where(path, line, module)
        for path in _sources()
        for line, module in _imports(path)
        if module.split(".")[0] == library
        and not any(
            _named(path) == home or (home.endswith("/") and _named(path).startswith(home)) for home in LIVES_IN[library]
        )
    ]
    assert wrong == []


def _named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_folder_with_code_is_packaged() -> None:
    """Setuptools takes the list of packages as it is: one that is missing there is missing in the wheel."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in _sources()}
    assert sorted("cxr_triage." + ".".join(folder.parts) for folder in folders) == sorted(listed)


def _takes_clock(node: ast.AST, known: set[str]) -> bool:
    """Whether this defines a function with an argument `clock`, or a class that is made with one."""
    if isinstance(node, ast.FunctionDef):
        return "clock" in {argument.arg for argument in node.args.kwonlyargs}
    if isinstance(node, ast.ClassDef):
        made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        return any(_takes_clock(each, known) for each in made) or bool({ast.unparse(b) for b in node.bases} & known)
    return False


def _clock_takers() -> set[str]:
    """What of storage and daemon takes a clock, by name; where a name means two things, the tests of both must tell."""
    takers: set[str] = set()
    others: set[str] = set()
    sources = [path for path in _sources() if path.relative_to(ROOT).parts[0] in {"storage", "daemon"}]
    for path in sources:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if _takes_clock(node, takers):
                assert isinstance(node, ast.ClassDef | ast.FunctionDef)
                takers.add(node.name)
            elif isinstance(node, ast.FunctionDef):
                others.add(node.name)
    return takers - others


def test_the_daemon_goes_by_the_service_clock() -> None:
    """Whatever takes a clock is given one: left alone, it would go by the machine's, which may be set by years."""
    takers = _clock_takers()
    assert {"Scoring", "Dispatch", "Inbox", "Outbox", "Courier", "Upkeep", "registry"} <= takers
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.func.id}"
        for path in sorted((ROOT / "daemon").rglob("*.py"))
        # The demo reads only, on this machine, for a minute; health asks whether the database answers.
        if not _named(path).startswith(("daemon/demo/", "daemon/web/health.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in takers
        if "clock" not in {keyword.arg for keyword in node.keywords}
    ]
    assert wrong == []


#: What must not be loaded by what: it would make a small process large, or a fast command slow.
TOO_MUCH = [
    ("cxr_triage.daemon.__main__", {"torch", "sqlalchemy", "pynetdicom", "highdicom", "cxr_triage.training"}),
    ("cxr_triage.daemon.service", {"torch", "pynetdicom", "highdicom"}),
    ("cxr_triage.daemon.receive", {"torch", "highdicom"}),
    ("cxr_triage.daemon.deliver", {"torch", "highdicom"}),
    ("cxr_triage.daemon.report", {"torch", "pynetdicom"}),
    ("cxr_triage.daemon.upkeep", {"torch", "pynetdicom", "highdicom"}),
    ("cxr_triage.daemon.web.app", {"torch", "pynetdicom", "highdicom"}),
    ("cxr_triage.daemon.worklist.mwl", {"torch", "highdicom"}),
    ("cxr_triage.daemon.orders.role", {"torch", "highdicom"}),
    ("cxr_triage.daemon.check", {"torch", "highdicom"}),
    ("cxr_triage.daemon.conformance.command", {"torch"}),
    ("cxr_triage.daemon.display.command", {"torch", "pynetdicom", "highdicom", "sqlalchemy"}),
]


@pytest.mark.parametrize(("module", "unwanted"), TOO_MUCH, ids=[module for module, _ in TOO_MUCH])
def test_a_role_loads_what_it_needs_only(module: str, unwanted: set[str]) -> None:
    """Only the worker that reads images loads the network's library, only the reporter the objects'."""
    script = f"import sys, {module}; print(sorted({unwanted!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
