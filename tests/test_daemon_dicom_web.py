"""STOW-RS against Orthanc, and against servers that fail in every way: the same outbox, patience and circuit."""

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from cxr_triage.daemon.check import check
from cxr_triage.daemon.deliver import Courier, DeliverRole
from cxr_triage.daemon.dicom_web import StowTransport
from cxr_triage.daemon.settings import Settings
from cxr_triage.model.errors import UnreachableError
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Circuits, Dispatch
from cxr_triage.storage.schema import DeliveryRow
from deliveries import HASTY, LEASE, NEVER, Results
from peers import DICOM_WEB, LOOPBACK, Orthanc, eventually, free_port, orthanc, running
from webs import FAILED, Answer, Request, Web, certificate, cut, plainly, says

DONE, WAITING = {DeliveryState.STORED: 2}, {DeliveryState.PENDING: 2}
SECRET = "s3cret-t0ken"


def courier(results: Results, url: str, **options: Any) -> Courier:
    """Give the sender for a server, with little patience."""
    limits = {"connect_timeout_seconds": 2, "answer_timeout_seconds": 2, "network_timeout_seconds": 2}
    return Courier(
        destination="pacs",
        transport=StowTransport(url=url, **(limits | options)),
        dispatch=Dispatch(results.database, lease=LEASE, clock=results.clock),
        circuits=Circuits(results.database, clock=results.clock),
        outbox=results.outbox,
        owner_id="deliver-test",
        patience=HASTY,
        clock=results.clock,
    )


def deliver(results: Results, url: str, **options: Any) -> None:
    """Send what is due until nothing is."""
    sender = courier(results, url, **options)
    while sender.deliver_batch(NEVER):
        pass


@contextmanager
def archive(folder: Path) -> Iterator[tuple[Orthanc, str]]:
    """Run Orthanc with its DICOMweb plugin; gives the address of its Studies resource too."""
    with orthanc(folder, plugins=[DICOM_WEB]) as server:
        yield server, f"{server.http}/dicom-web/studies"


def test_orthanc_stores(results: Results, tmp_path: Path) -> None:
    """SEG and SR, each as the bytes that lie in the outbox; sent again, nothing is doubled."""
    made = results.report("pacs")
    with archive(tmp_path / "orthanc") as (server, url):
        deliver(results, url)
        assert results.states() == DONE
        assert server.instances() == sorted(each.sop_instance_uid for each in made)
        for each in made:
            (found,) = server.post("/tools/lookup", each.sop_instance_uid.encode())
            assert server.get_bytes(f"{found['Path']}/file") == results.outbox.absolute(each.path).read_bytes()
        with results.database.transaction() as session:
            session.execute(update(DeliveryRow).values(state=DeliveryState.PENDING))
        deliver(results, url)
        assert len(server.instances()) == 2
    assert results.states() == DONE


def test_the_role_and_check_use_it(results: Results, tmp_path: Path, sqlite_url: str) -> None:
    """From settings to stored objects."""
    results.report("web")
    with archive(tmp_path / "orthanc") as (server, url):
        storage = {"root": tmp_path, "database": sqlite_url}
        settings = Settings.model_validate({"storage": storage, "destination": [{"name": "web", "stow_url": url}]})
        found = {finding.subject: finding for finding in check(settings)}
        assert (found["destination web"].ok, found["destination web"].message) == (True, f"{url} answers")
        with running(DeliverRole(settings).run):
            eventually(lambda: results.states("web") == DONE)
        assert len(server.instances()) == 2


def test_a_file_goes_as_it_is(results: Results) -> None:
    """One part, its length said in advance, and SEG before SR."""
    made, web = results.report("pacs"), Web()
    with web.serving() as url:
        deliver(results, url)
    files = [results.outbox.absolute(each.path).read_bytes() for each in made]
    assert all(file in body for file, body in zip(files, web.bodies, strict=True))
    assert all("Transfer-Encoding" not in headers for headers in web.headers)
    assert {headers["Accept"] for headers in web.headers} == {"application/dicom+json"}


@pytest.mark.parametrize("reason", [0xB000, 0xB006, 0xB007])
def test_a_warning_is_stored(results: Results, reason: int) -> None:
    """PS3.18 Table 10.5.3-1, 202: the object is there, whatever it remarks."""
    results.report("pacs")
    with Web(answer=says(202, reason=reason)).serving() as url, capture_logs() as lines:
        deliver(results, url)
    assert results.states() == DONE
    assert [line["status"] for line in lines if "status" in line] == [f"0x{reason:04X}"] * 2


@pytest.mark.parametrize(
    "answer",
    [
        says(409, sequence=FAILED, reason=0x0111),
        says(409, sequence=FAILED, reason=0xB00E),
        says(200, sequence=FAILED, reason=0xB00E),
    ],
)
def test_what_is_there_already_is_stored(results: Results, answer: Answer) -> None:
    """A UID of ours stands for its content."""
    results.report("pacs")
    with Web(answer=answer).serving() as url:
        deliver(results, url)
    assert results.states() == DONE


@pytest.mark.parametrize(
    "answer", [says(409, sequence=FAILED, reason=0x0122), says(202, sequence=FAILED, reason=0xC122), plainly(415)]
)
def test_a_class_that_is_not_taken(results: Results, answer: Answer) -> None:
    """PS3.18 Table I.2-2: the SOP Class or its transfer syntax; it holds nothing back."""
    results.report("pacs")
    with Web(answer=answer).serving() as url:
        deliver(results, url)
    assert results.states() == {DeliveryState.NOT_TAKEN: 2}
    assert results.circuit().changed_at is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(409, sequence=FAILED, reason=0xA900), "Failure Reason 0xA900"),
        (says(202, sequence=FAILED, reason=0xC000), "Failure Reason 0xC000"),
        (says(409, sequence=FAILED), "gives no reason"),
        (plainly(409), "status 409"),
        (plainly(400, b"bad"), "status 400"),
        (plainly(413), "status 413"),
        (says(409), "status 409"),
    ],
)
def test_a_refused_object_is_given_up_with_a_reason(results: Results, answer: Answer, words: str) -> None:
    """After the configured number of offers, as by C-STORE; the SR waits for its SEG."""
    results.report("pacs")
    web = Web(answer=answer)
    with web.serving() as url:
        sender = courier(results, url)
        eventually(lambda: not sender.deliver_batch(NEVER) and DeliveryState.DEAD in results.states())
    assert results.states() == {DeliveryState.DEAD: 1, DeliveryState.PENDING: 1}
    assert len(web.bodies) == HASTY.maximum_refusals
    assert any(words in (error or "") for error in results.errors())


def silence(request: Request) -> None:
    """Say nothing for longer than anybody waits."""
    threading.Event().wait(4)
    request.close_connection = True


def half(request: Request) -> None:
    """Promise more than is sent."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"00081199": {"vr": "SQ", "Value": [')
    cut(request)


def huge(request: Request) -> None:
    """Send without an end."""
    request.send_response(200)
    request.send_header("Content-Length", str(1 << 40))
    request.end_headers()
    while True:
        request.wfile.write(b" " * 65536)


def trickle(request: Request) -> None:
    """Send a byte at a time, each within the time for one."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    for _ in range(100):
        request.wfile.write(b" ")
        threading.Event().wait(0.2)


def bomb(request: Request) -> None:
    """Send little that becomes much."""
    content = gzip.compress(b" " * (1 << 26))
    request.send_response(200)
    request.send_header("Content-Encoding", "gzip")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (plainly(503), "status 503: not now"),
        (plainly(429), "status 429: not now"),
        (plainly(507), "status 507: not now"),
        (says(409, sequence=FAILED, reason=0xA700), "Failure Reason 0xA700"),
        (says(202, sequence=FAILED, reason=0x0110), "Failure Reason 0x0110"),
        (plainly(500), "status 500"),
        (plainly(502, b"<html>", "text/html"), "status 502"),
        (plainly(401), "status 401: it does not know us"),
        (plainly(403), "status 403: we may not store there"),
        (plainly(404), "status 404: nothing is there: check stow_url"),
        (plainly(301), "status 301: it is elsewhere"),
        (plainly(200), "does not say that it has the object"),
        (plainly(200, b"{}"), "does not say that it has the object"),
        (plainly(200, b"[[[", "application/dicom+json"), "does not say that it has the object"),
        (plainly(200, b"[" * 100_000), "does not say that it has the object"),
        (plainly(200, b'{"00081199": {"Value": [7, {"00081155": 9}]}}'), "does not say that it has the object"),
        (plainly(200, b"<NativeDicomModel/>", "application/dicom+xml"), "does not say that it has the object"),
        (says(200, uid="1.2.3.4"), "does not say that it has the object"),
        (cut, "gave no answer (RemoteProtocolError)"),
        (half, "gave no answer (RemoteProtocolError)"),
        (silence, "gave no answer in time (ReadTimeout)"),
        (huge, "longer than any should be"),
        (bomb, "longer than any should be"),
        (trickle, "did not end its answer in time"),
    ],
)
def test_a_server_that_fails_costs_time_only(results: Results, answer: Answer, words: str) -> None:
    """It is left alone, nothing is given up, and all goes once it is well."""
    results.report("pacs")
    web = Web(answer=answer)
    with web.serving() as url:
        sender = courier(results, url)
        assert sender.deliver_batch(NEVER)
        assert (results.states(), results.circuit().failures) == (WAITING, 1)
        assert words in results.circuit().reason
        web.answer = says(200)
        eventually(lambda: not sender.deliver_batch(NEVER) and results.states() == DONE)
    assert not results.circuit().is_open


def test_a_connection_that_is_cut_within_the_object(results: Results) -> None:
    """It goes again, whole."""
    results.report("pacs")
    web = Web(before_body=cut)
    with web.serving() as url:
        sender = courier(results, url)
        assert sender.deliver_batch(NEVER)
        assert results.states() == WAITING
        web.before_body = None
        eventually(lambda: not sender.deliver_batch(NEVER) and results.states() == DONE)


def test_an_answer_that_comes_before_the_object_is_sent(results: Results) -> None:
    """A server need not read what it will not have."""
    results.report("pacs")
    with Web(before_body=plainly(401)).serving() as url:
        assert courier(results, url).deliver_batch(NEVER)
    assert "status 401" in results.circuit().reason


def test_nobody_listens(results: Results) -> None:
    """As by C-STORE: the destination is down."""
    results.report("pacs")
    assert courier(results, f"http://{LOOPBACK}:{free_port()}/studies").deliver_batch(NEVER)
    assert results.states() == WAITING
    assert "cannot be reached" in results.circuit().reason


def test_a_server_that_accepts_and_is_silent(results: Results) -> None:
    """Its backlog takes the connection, and nobody reads."""
    results.report("pacs")
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        assert courier(results, f"http://{LOOPBACK}:{port}/studies", answer_timeout_seconds=0.3).deliver_batch(NEVER)
    assert "gave no answer in time" in results.circuit().reason


def test_a_known_authority_is_trusted(results: Results, tmp_path: Path) -> None:
    """The one that the site names, for the name that is called."""
    results.report("pacs")
    pem = certificate(tmp_path, f"IP:{LOOPBACK}")
    with Web().serving(pem) as url:
        deliver(results, url, ca_file=Path(f"{pem}.crt"))
    assert results.states() == DONE


@pytest.mark.parametrize("known", [False, True], ids=["unknown authority", "another name"])
def test_who_is_not_the_server_gets_nothing(results: Results, tmp_path: Path, known: bool) -> None:
    """Neither an object nor a token."""
    results.report("pacs")
    pem = certificate(tmp_path, "DNS:pacs.example.org")
    token = tmp_path / "token"
    token.write_text(SECRET)
    web = Web()
    with web.serving(pem) as url:
        assert courier(results, url, token_file=token, ca_file=Path(f"{pem}.crt") if known else None).deliver_batch(
            NEVER
        )
    assert (results.states(), web.headers) == (WAITING, [])
    assert "certificate verify failed" in results.circuit().reason


def test_a_token_is_shown_and_read_anew(results: Results, tmp_path: Path) -> None:
    """Whoever renews it need not restart anything."""
    token = tmp_path / "token"
    web = Web()
    with web.serving() as url:
        for secret in ("first", "second"):
            token.write_text(f"{secret}\n")
            results.report("pacs")
            deliver(results, url, token_file=token)
    assert [headers["Authorization"] for headers in web.headers] == ["Bearer first"] * 2 + ["Bearer second"] * 2


def test_a_password_is_shown(results: Results, tmp_path: Path) -> None:
    """RFC 7617, in UTF-8."""
    password = tmp_path / "password"
    password.write_text("triage:pä:ss wörd\n", encoding="utf-8")
    results.report("pacs")
    web = Web()
    with web.serving() as url:
        deliver(results, url, password_file=password)
    assert {headers["Authorization"] for headers in web.headers} == {"Basic dHJpYWdlOnDDpDpzcyB3w7ZyZA=="}


@pytest.mark.parametrize(
    "content", [b"", f"{SECRET}\r\nX-Evil: 1".encode(), f"{SECRET} {SECRET}".encode(), b"\xff\xfe" + SECRET.encode()]
)
def test_a_file_that_holds_no_token_is_named_and_not_shown(results: Results, tmp_path: Path, content: bytes) -> None:
    """The destination waits; the secret stands in no log and no row."""
    token = tmp_path / "token"
    token.write_bytes(content)
    results.report("pacs")
    web = Web()
    with web.serving() as url, capture_logs() as lines:
        assert courier(results, url, token_file=token).deliver_batch(NEVER)
    assert (results.states(), web.headers) == (WAITING, [])
    assert str(token) in results.circuit().reason
    assert SECRET not in repr((lines, results.errors(), results.circuit()))


def test_no_failure_tells_the_secret(results: Results, tmp_path: Path) -> None:
    """Whatever goes wrong with a request that carries it."""
    token = tmp_path / "token"
    token.write_text(SECRET)
    results.report("pacs")
    with capture_logs() as lines:
        for answer in (plainly(401), plainly(403), cut, half):
            with Web(answer=answer).serving() as url:
                transport = StowTransport(url=url, token_file=token, answer_timeout_seconds=2)
                courier(results, url, token_file=token).deliver_batch(NEVER)
                with pytest.raises(UnreachableError) as raised:
                    transport.verify()
                assert SECRET not in repr((raised.value, raised.value.__cause__, transport))
            Circuits(results.database).end_pauses("pacs")
    assert SECRET not in repr((lines, results.errors(), results.circuit()))


def test_authorities_that_cannot_be_read(results: Results, tmp_path: Path) -> None:
    """The file is named."""
    results.report("pacs")
    assert courier(results, "https://pacs.invalid/studies", ca_file=tmp_path / "missing.pem").deliver_batch(NEVER)
    assert str(tmp_path / "missing.pem") in results.circuit().reason


def test_a_question_stores_nothing(tmp_path: Path) -> None:
    """What a destination is asked while nothing is due for it."""
    with archive(tmp_path / "orthanc") as (server, url):
        StowTransport(url=url).verify()
        with pytest.raises(UnreachableError, match="status 404: nothing is there"):
            StowTransport(url=f"{server.http}/nowhere/studies").verify()
        assert server.instances() == []


def test_a_number_that_is_none_is_no_number(results: Results) -> None:
    """Nor is it the end of the sender: five thousand digits for a reason are a failure without one."""
    results.report("pacs")

    def answer(request: Request) -> None:
        reason = {"vr": "US", "Value": ["9" * 5000]}
        item = {"00081155": {"vr": "UI", "Value": [request.uid]}, "00081197": reason}
        request.say(409, json.dumps({FAILED: {"vr": "SQ", "Value": [item]}}).encode())

    web = Web(answer=answer)
    with web.serving() as url:
        sender = courier(results, url)
        eventually(lambda: not sender.deliver_batch(NEVER) and DeliveryState.DEAD in results.states())
    assert any("gives no reason" in (error or "") for error in results.errors())


@pytest.mark.parametrize("url", ["https://xn--/studies", f"https://{'a' * 70000}/studies"])
def test_an_address_that_is_none_costs_time_only(results: Results, url: str) -> None:
    """It is named, and nothing is given up for it."""
    results.report("pacs")
    deliver(results, url)
    assert results.states() == WAITING
    assert "check stow_url" in Circuits(results.database).of("pacs").reason


def test_a_head_that_drips_is_no_answer(results: Results) -> None:
    """A byte now and then is not silence; the answer as a whole has its time."""
    results.report("pacs")
    stop = threading.Event()
    with socket.create_server((LOOPBACK, 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not stop.wait(0.2):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        sender = courier(results, f"http://{LOOPBACK}:{listening.getsockname()[1]}/studies", answer_timeout_seconds=1)
        assert sender.deliver_batch(NEVER)
        stop.set()
        thread.join()
    assert results.states() == WAITING
    assert "gave no answer" in Circuits(results.database).of("pacs").reason
