"""Storage commitment by the whole service, with Orthanc on both sides: killed in the middle, it keeps its word."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cxr_triage.daemon.demo.serving import free_ports
from daemons import Daemon, another, chest_radiographs, wait_until
from peers import Orthanc, orthanc

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

XRAY = "XRAY1"
#: The table of the destination is still open.
EXTRA = """commitment = true
[[modality]]
ae_title = "XRAY1"
host = "127.0.0.1"
port = {port}
[deliver]
poll_seconds = 0.5
retry_first_seconds = 0.5
retry_longest_seconds = 2
commitment_delay_seconds = 0.5
commitment_wait_seconds = 0.5
[upkeep]
interval_seconds = 1
"""


class Site:
    """A service, the PACS that it sends to, and a modality."""

    def __init__(self, *, daemon: Daemon, pacs: Orthanc, modality: Orthanc, folder: Path) -> None:
        self.daemon = daemon
        self.pacs = pacs
        self.modality = modality
        self.folder = folder

    def send(self, name: str, image: str) -> None:
        """Let the modality send an image."""
        answer = self.modality.post(f"/modalities/{name}/store", image.encode())
        assert answer["FailedInstancesCount"] == 0

    def ask(self, image: str) -> str:
        """Let the modality ask for commitment; the path of the result."""
        answer = self.modality.post(
            "/modalities/triage/storage-commitment", json.dumps({"Resources": [image]}).encode()
        )
        return str(answer["Path"])

    def has_result(self, path: str, result: str) -> bool:
        """Whether the modality has been told that."""
        return bool(self.modality.get(path)["Status"] == result)

    def destination(self) -> dict[str, Any]:
        """What the service says of the PACS."""
        (destination,) = json.loads(self.daemon.run("status", "--json"))["destinations"]
        assert isinstance(destination, dict)
        return destination

    def deliveries(self) -> dict[str, int]:
        """How many deliveries are in each state."""
        return {state: number for state, number in self.destination()["deliveries"].items() if number}


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Run all three."""
    (port,) = free_ports(1)
    triage = {"triage": ("CXRTRIAGE", "127.0.0.1", port)}
    with orthanc(folder / "pacs", modalities=triage) as pacs:
        known = triage | {"pacs": ("PACS", "127.0.0.1", pacs.dicom_port)}
        with orthanc(folder / "modality", modalities=known, ae_title=XRAY) as modality:
            daemon = Daemon(
                folder,
                destinations={"pacs": ("PACS", pacs.dicom_port)},
                dicom_port=port,
                extra=EXTRA.format(port=modality.dicom_port),
            )
            serving = '[dicom]\ncommitment = true\ncommitment_destination = "pacs"\n'
            daemon.config.write_text(daemon.config.read_text().replace("[dicom]\n", serving))
            try:
                yield Site(daemon=daemon.start(), pacs=pacs, modality=modality, folder=folder)
                daemon.stop()
            finally:
                daemon.kill()


def test_results_are_committed_to_and_a_modality_is_told(tmp_path: Path) -> None:
    """The service is killed after it acknowledged the modality's request, and while the PACS has nothing yet."""
    with site(tmp_path) as run:
        image = run.modality.post("/instances", another(chest_radiographs()[0], tmp_path).read_bytes())["ID"]
        run.send("triage", image)
        result = run.ask(image)
        run.daemon.kill()
        assert run.has_result(result, "Pending")
        run.send("pacs", image)
        run.daemon.start()
        wait_until(lambda: run.has_result(result, "Success"), seconds=120, what="the modality is told")
        wait_until(lambda: run.deliveries() == {"committed": 2}, seconds=240, what="SEG and SR are committed to")
        assert run.destination()["commitment_trouble"] == ""
        assert len(run.pacs.instances()) == 3
        never_sent = run.modality.post("/instances", another(chest_radiographs()[1], tmp_path).read_bytes())["ID"]
        unknown = run.ask(never_sent)
        wait_until(lambda: run.has_result(unknown, "Failure"), seconds=120, what="the modality is told of the failure")
