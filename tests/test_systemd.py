"""The units: systemd finds nothing wrong with them, and they say what the product says."""

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_triage.daemon.service import PORTS, ROLES, enabled_roles, processes
from cxr_triage.daemon.settings import load_settings
from peers import free_port

FOLDER = Path(__file__).parents[1] / "systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
UNITS = sorted([*SERVICES, *FOLDER.glob("*.socket"), *FOLDER.glob("*.target")])
#: Where the units say that the product is installed.
INSTALLED = "/opt/cxr-triage/bin/cxr-triage"


class _Repeated(dict[str, str]):
    """Options of a unit may be repeated: their values are joined."""

    def __setitem__(self, key: str, value: str) -> None:
        """Join what the parser reads, line by line."""
        if isinstance(value, list) and key in self and isinstance(self[key], list):
            value = self[key] + value
        super().__setitem__(key, value)


def _read(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, dict_type=_Repeated)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser


def _unit_of(role: str) -> Path:
    return FOLDER / (f"cxr-triage-{role}@.service" if role == "receive" else f"cxr-triage-{role}.service")


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """As `systemd-analyze verify` sees them where the product is installed: a program stands in for ours."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(INSTALLED, "/bin/true")
        # Verification looks the user up, who exists only where sysusers.d has made him.
        text = text.replace("User=cxr-triage", "User=root").replace("Group=cxr-triage", "Group=root")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    # A template is verified as one of its instances.
    names = [unit.name.replace("@.", "@2.") for unit in UNITS]
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_role_has_its_unit() -> None:
    """And no unit has no role."""
    roles = {unit.stem.removeprefix("cxr-triage-").removesuffix("@") for unit in SERVICES}
    assert roles == {*ROLES, "migrate"}


@pytest.mark.parametrize("role", ROLES)
def test_a_unit_runs_its_role(role: str) -> None:
    """Ready when it says so, in its own state folder, started again when it dies."""
    service = _read(_unit_of(role))["Service"]
    number = ["--number", "%i"] if role == "receive" else []
    assert shlex.split(service["ExecStart"]) == [INSTALLED, "serve", "--role", role, *number]
    assert (service["Type"], service["StateDirectory"], service["Restart"]) == ("notify", "cxr-triage", "on-failure")


def test_the_target_starts_what_is_on_by_default() -> None:
    """The modality worklist is off until a site switches it on."""
    wanted = set(_read(FOLDER / "cxr-triage.target")["Unit"]["Wants"].split())
    settings = load_settings(FOLDER / "cxr-triage.toml")
    names = [name.replace("-", "@") for role in enabled_roles(settings) for name in processes(role, settings)]
    assert wanted == {f"cxr-triage-{name}.service" for name in names} | {"cxr-triage-receive.socket"}


def test_the_receivers_share_one_socket() -> None:
    """Every instance inherits it, whichever one a connection wakes."""
    unit, socket = _read(_unit_of("receive")), _read(FOLDER / "cxr-triage-receive.socket")["Socket"]
    assert unit["Service"]["Sockets"] == unit["Unit"]["Requires"] == "cxr-triage-receive.socket"
    assert (socket["Service"], socket.get("Accept", "no")) == ("cxr-triage-receive@1.service", "no")


def test_the_socket_is_the_port_of_the_example() -> None:
    """Under the name by which the role asks for it."""
    socket = _read(FOLDER / "cxr-triage-receive.socket")["Socket"]
    dicom = load_settings(FOLDER / "cxr-triage.toml").dicom
    assert (socket["ListenStream"], socket["FileDescriptorName"]) == (f"{dicom.host}:{dicom.port}", PORTS["receive"])


def test_units_wait_longer_than_the_service() -> None:
    """Systemd must not kill what still drains."""
    limits = load_settings(FOLDER / "cxr-triage.toml").service
    for role in ROLES:
        service = _read(_unit_of(role))["Service"]
        assert int(service["TimeoutStartSec"]) > limits.ready_seconds
        assert int(service["TimeoutStopSec"]) > limits.drain_seconds


def test_the_receiver_takes_the_socket_of_its_unit(tmp_path: Path, sqlite_url: str) -> None:
    """As systemd hands it over: the port of the configuration is not opened."""
    config = tmp_path / "cxr-triage.toml"
    config.write_text(f'[dicom]\nport = {free_port()}\n[storage]\ndatabase = "{sqlite_url}"\n')
    port = free_port()
    serve = [sys.executable, "-m", "cxr_triage.daemon", "serve", "--role", "receive", "--config", str(config)]
    handed = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", "--fdname=dicom"]
    with subprocess.Popen([*handed, *serve], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        echo = ["/usr/bin/echoscu", "-aec", "CXRTRIAGE", "127.0.0.1", str(port)]
        done = subprocess.run(echo, capture_output=True, text=True, check=False)
        process.terminate()
        process.communicate()
    assert (done.returncode, done.stderr) == (0, "")
