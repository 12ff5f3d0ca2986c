"""The whole service beside a RIS: a study that came without an order stands where it was ordered."""

import json
from pathlib import Path

import pytest

from daemons import Daemon, another, chest_radiographs, send, wait_until
from ordering import RIS, entry
from peers import wlmscpfs

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

PLANTED = {"AccessionNumber": "ACC-PLANTED", "PatientID": "ID-PLANTED", "PatientBirthDate": "19510203"}


def test_a_study_is_ordered_as_the_ris_says(tmp_path: Path) -> None:
    """DCMTK's worklist, another Study Instance UID, a real radiograph; nothing of the patient is printed or logged."""
    image = another(chest_radiographs()[0], tmp_path, **PLANTED)
    (data := tmp_path / "daemon").mkdir()
    with wlmscpfs(tmp_path / "ris", [entry("1.2.3.4.5", "STAT", **PLANTED)]) as port:
        ris = f'[ris]\nhost = "127.0.0.1"\nport = {port}\nae_title = "{RIS}"\n'
        with Daemon(data, destinations={}, extra=ris) as daemon:
            assert send(image, port=daemon.dicom_port)
            wait_until(lambda: _ordered(daemon) == ["STAT"], seconds=120, what="the order is known")
            printed = daemon.run("status") + daemon.run("check") + daemon.run("worklist")
            assert json.loads(daemon.run("status", "--json"))["roles"]["orders"]
    assert "RIS: RIS at 127.0.0.1" in printed
    log = daemon.log.read_text()
    assert "order known" in log
    assert [value for value in PLANTED.values() if value in printed + log] == []


def _ordered(daemon: Daemon) -> list[str]:
    return [study["ordered"] for study in json.loads(daemon.run("worklist", "--json"))["studies"]]
