"""`cxr-triage check`: what is right, what is wrong, and what to do; against real peers."""

from pathlib import Path

import pytest

from cxr_triage.daemon.check import Finding, check
from cxr_triage.daemon.heartbeat import beating
from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.daemon.sockets import listening_socket
from peers import REFUSED_CONNECTION, free_port, storescp, wlmscpfs


def _settings(folder: Path, url: str, *, tables: str = "", model: str = "") -> Settings:
    file = folder / "cxr-triage.toml"
    file.write_text(
        f'[dicom]\nport = {free_port()}\n[web]\nport = {free_port()}\n[storage]\ndatabase = "{url}"\n{model}{tables}'
    )
    return load_settings(file)


def _destination(port: int, ae_title: str = "PACS") -> str:
    return f'[[destination]]\nname = "pacs"\nae_title = "{ae_title}"\nhost = "127.0.0.1"\nport = {port}\n'


def _found(settings: Settings) -> dict[str, Finding]:
    return {finding.subject: finding for finding in check(settings)}


def test_a_sound_installation_has_nothing_wrong(tmp_path: Path, sqlite_url: str) -> None:
    """Folders, database, bundled weights, ports and a PACS that answers."""
    with storescp(tmp_path / "pacs") as port:
        found = _found(_settings(tmp_path, sqlite_url, tables=_destination(port)))
    assert [finding for finding in found.values() if not finding.ok] == []
    assert list(found) == [
        "storage.root",
        "storage.inbox",
        "storage.outbox",
        "storage.run",
        "database",
        "weights",
        "port dicom",
        "port web",
        "destination pacs",
    ]


def _ris(port: int) -> str:
    return f'[ris]\nhost = "127.0.0.1"\nport = {port}\nae_title = "RIS"\n'


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_ris_is_asked_whether_it_has_a_worklist(tmp_path: Path, sqlite_url: str) -> None:
    """One that answers, and one that does not."""
    with wlmscpfs(tmp_path / "ris", []) as port:
        sound = _found(_settings(tmp_path, sqlite_url, tables=_ris(port)))["RIS"]
    down = _found(_settings(tmp_path, sqlite_url, tables=_ris(port)))["RIS"]
    assert (sound.ok, sound.message) == (
        True,
        f"RIS at 127.0.0.1 port {port} answers C-ECHO, and offers a modality worklist",
    )
    assert (down.ok, f"RIS at 127.0.0.1 port {port} gave no DICOM answer" in down.message) == (False, True)


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_destination_that_is_down_is_named(tmp_path: Path, sqlite_url: str) -> None:
    """With its address."""
    port = free_port()
    finding = _found(_settings(tmp_path, sqlite_url, tables=_destination(port)))["destination pacs"]
    assert (finding.ok, f"PACS at 127.0.0.1 port {port}" in finding.message) == (False, True)


def test_damaged_weights_are_found(tmp_path: Path, sqlite_url: str) -> None:
    """By their hash; missing ones by their path."""
    finding = _found(_settings(tmp_path, sqlite_url, model='[model]\nbundle = "nowhere"\n'))["weights"]
    assert (finding.ok, str(tmp_path / "nowhere") in finding.message) == (False, True)


def test_an_empty_database_is_no_fault(tmp_path: Path, empty_database_url: str) -> None:
    """`serve` creates its tables; nothing is created by looking."""
    settings = _settings(tmp_path, empty_database_url)
    for _ in range(2):
        finding = _found(settings)["database"]
        assert (finding.ok, "is empty" in finding.message) == (True, True)


def test_an_unreachable_database_is_found_and_its_password_is_not_printed(tmp_path: Path) -> None:
    """In words."""
    url = f"postgresql+psycopg://user:hunter2@127.0.0.1:{free_port()}/triage"
    finding = _found(_settings(tmp_path, url))["database"]
    assert (finding.ok, "hunter2" in finding.message) == (False, False)


def test_a_port_of_another_program_is_found(tmp_path: Path, sqlite_url: str) -> None:
    """Not so when the program is our own service."""
    settings = _settings(tmp_path, sqlite_url)
    settings.prepare_folders()
    with listening_socket("127.0.0.1", settings.dicom.port, name="other"):
        finding = _found(settings)["port dicom"]
        assert (finding.ok, str(settings.dicom.port) in finding.message) == (False, True)
        with beating(settings.run_folder, "receive-2", settings.service.heartbeat_seconds):
            assert _found(settings)["port dicom"].ok


def test_a_root_that_is_a_file_is_found(tmp_path: Path, sqlite_url: str) -> None:
    """All that should lie in it is looked for, too."""
    settings = _settings(tmp_path, sqlite_url, model='root = "taken"\n')
    (tmp_path / "taken").write_text("")
    found = _found(settings)
    assert (found["storage.root"].ok, found["storage.run"].ok, found["port dicom"].ok) == (False, False, True)


def test_a_device_that_is_not_there_is_found(tmp_path: Path, sqlite_url: str) -> None:
    """Before `serve` refuses to start."""
    finding = _found(_settings(tmp_path, sqlite_url, model='[model]\ndevice = "cuda:4096"\n'))["device"]
    assert (finding.ok, "cuda:4096" in finding.message) == (False, True)


def test_all_that_is_wrong_is_found_at_once(tmp_path: Path, sqlite_url: str) -> None:
    """One finding does not hide the next."""
    (tmp_path / "outbox").write_text("")
    found = _found(_settings(tmp_path, sqlite_url, model='[model]\nbundle = "nowhere"\n'))
    assert [subject for subject, finding in found.items() if not finding.ok] == ["storage.outbox", "weights"]
