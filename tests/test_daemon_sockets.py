"""Ports that outlive the process that serves them."""

import os
import socket
import subprocess
import sys

import pytest

from cxr_triage.daemon.sockets import handed_over, listening_socket
from cxr_triage.model.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
#: Takes two sockets in the opposite order, and greets whoever waits on them.
GREETER = """
from cxr_triage.daemon.sockets import listening_socket
for name in ("worklist", "dicom"):
    with listening_socket("192.0.2.1", 9, name=name) as listener, listener.accept()[0] as connection:
        connection.sendall(name.encode())
"""


def test_a_port_is_bound_when_none_is_inherited() -> None:
    """What is returned accepts connections at once."""
    with (
        listening_socket(LOOPBACK, 0, name="dicom") as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        server.sendall(b"here")
        assert client.recv(4) == b"here"


@pytest.mark.parametrize(
    ("host", "advice"), [(LOOPBACK, "end the program"), ("192.0.2.1", "an address of this machine")]
)
def test_a_port_that_cannot_be_had_says_what_to_do(host: str, advice: str) -> None:
    """By what is wrong: another program, or another machine's address."""
    with listening_socket(LOOPBACK, 0, name="other") as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=advice):
            listening_socket(host, port, name="dicom")


def test_a_child_serves_connections_that_came_before_it() -> None:
    """Each handed-over socket is found by its name, with what waits in its queue."""
    with (
        listening_socket(LOOPBACK, 0, name="dicom") as dicom,
        listening_socket(LOOPBACK, 0, name="worklist") as worklist,
        socket.create_connection(dicom.getsockname()) as to_dicom,
        socket.create_connection(worklist.getsockname()) as to_worklist,
    ):
        command, descriptors = handed_over(
            {"dicom": dicom, "worklist": worklist}, [sys.executable, "-W", "error", "-c", GREETER]
        )
        subprocess.run(command, pass_fds=descriptors, check=True, timeout=60)
        assert (to_dicom.recv(8), to_worklist.recv(8)) == (b"dicom", b"worklist")


def test_handing_over_keeps_the_process_id() -> None:
    """Whoever waits for the process waits for the command itself."""
    with listening_socket(LOOPBACK, 0, name="dicom") as dicom:
        command, descriptors = handed_over({"dicom": dicom}, [sys.executable, "-c", "import os; print(os.getpid())"])
        with subprocess.Popen(command, pass_fds=descriptors, stdout=subprocess.PIPE, text=True) as child:
            printed, _ = child.communicate(timeout=60)
    assert int(printed) == child.pid


def test_what_is_meant_for_another_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that a parent did not clear name its own descriptors, not ours."""
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "dicom")
    with listening_socket(LOOPBACK, 0, name="dicom") as listener:
        assert listener.getsockname()[0] == LOOPBACK


def test_a_port_in_use_is_named() -> None:
    """The message says which service, where, and why."""
    with listening_socket(LOOPBACK, 0, name="dicom") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"worklist: cannot listen on {LOOPBACK} port {port} .*in use"):
            listening_socket(LOOPBACK, port, name="worklist")


def test_an_unknown_host_is_named() -> None:
    """A host without an address is a mistake in the configuration."""
    with pytest.raises(ConfigurationError, match=r"cannot listen on no-such-host\.invalid port 1 \(unknown host\)"):
        listening_socket("no-such-host.invalid", 1, name="dicom")
