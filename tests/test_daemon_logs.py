"""What is logged, and that no patient gets into it."""

import ast
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataelem import DataElement

from cxr_triage.daemon.logs import configure_logs, get_logger, silenced
from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.model.errors import StorageError
from kept_logging import kept_logging

NAME, PATIENT_ID, ACCESSION, BIRTH_DATE = "PLANTED^NAME", "PLANTED4711", "PLANTEDACC9", "19510203"
PLANTED = (NAME, PATIENT_ID, ACCESSION, BIRTH_DATE)
EVERYTHING = " ".join(PLANTED)
DAEMON = Path(__file__).parents[1] / "daemon"


@contextmanager
def _configured(settings: LogSettings) -> Iterator[io.StringIO]:
    """Standard error of a configured process; everything is put back afterwards."""
    written = io.StringIO()
    with kept_logging():
        warnings.simplefilter("always")
        configure_logs(settings, role="infer", stream=written)
        yield written


@pytest.fixture(params=["json", "console"])
def stream(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Everything that a configured process writes, in both formats."""
    with _configured(LogSettings(format=request.param, level="debug")) as written:
        yield written


def _raise_foreign() -> None:
    local = EVERYTHING
    try:
        int(local)
    except ValueError as cause:
        error = KeyError(f"cannot convert {local!r}")
        error.add_note(local)
        raise error from cause


def _raise_ours() -> None:
    try:
        _raise_foreign()
    except KeyError as cause:
        raise StorageError("the disk is full: make room") from cause


def _clean(stream: io.StringIO, *, lines: int = 1) -> str:
    written = stream.getvalue()
    assert [value for value in PLANTED if value in written] == []
    assert lines <= len(written.splitlines())
    return written


def test_our_lines_carry_who_when_and_what(stream: io.StringIO) -> None:
    """Event, role, level, logger, time, and the values that are known to be harmless."""
    get_logger("cxr_triage.daemon.infer").info("image scored", sop_instance_uid="1.2.840.1", seconds=0.5, attempt=2)
    written = stream.getvalue()
    if not written.startswith("{"):
        assert "image scored" in written
        return
    line: dict[str, Any] = json.loads(written)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "image scored",
        "level": "info",
        "logger": "cxr_triage.daemon.infer",
        "role": "infer",
        "sop_instance_uid": "1.2.840.1",
        "seconds": 0.5,
        "attempt": 2,
    }


def test_values_under_unknown_keys_are_withheld(stream: io.StringIO) -> None:
    """Strings, dates, objects, lists and tables: only what is on the list is written."""
    get_logger("cxr_triage.x").info(
        "planted",
        patient=NAME,
        ids=[PATIENT_ID],
        patient_number=19510203,
        day=date(1951, 2, 3),
        table={ACCESSION: BIRTH_DATE},
        element=DataElement(0x00100010, "PN", NAME),
        data=EVERYTHING.encode(),
    )
    assert "withheld" in _clean(stream)
    assert "1951" not in stream.getvalue()


def test_foreign_exceptions_show_class_and_frames_only(stream: io.StringIO) -> None:
    """The message of an exception that is not ours may quote data; so may its cause, its notes and its locals."""
    try:
        _raise_foreign()
    except KeyError:
        get_logger("cxr_triage.x").exception("image failed")
    written = _clean(stream)
    assert [part for part in ("KeyError", "caused by ValueError", "_raise_foreign") if part not in written] == []


def test_our_own_exceptions_show_their_message(stream: io.StringIO) -> None:
    """A message that we wrote says what to do; the cause behind it stays silent."""
    try:
        _raise_ours()
    except StorageError as error:
        get_logger("cxr_triage.x").error("receive failed", exc_info=error, reason=error)
    assert "the disk is full: make room" in _clean(stream)


@pytest.mark.parametrize("library", ["pynetdicom", "pydicom", "sqlalchemy.engine.Engine", "highdicom", "asyncio"])
def test_text_of_libraries_that_quote_data_is_withheld(stream: io.StringIO, library: str) -> None:
    """What remains is who spoke and from which line."""
    logging.getLogger(library).error("cannot store %s", EVERYTHING)
    logging.getLogger(library).error(EVERYTHING, extra={"patient": NAME}, stack_info=True)
    written = _clean(stream, lines=2)
    assert (library in written, Path(__file__).name in written) == (True, True)


@pytest.mark.parametrize("library", ["apscheduler.scheduler", "alembic.runtime.migration", "uvicorn.error"])
def test_text_of_libraries_that_never_quote_data_is_written(stream: io.StringIO, library: str) -> None:
    """Their messages help, but not their exceptions."""
    try:
        _raise_foreign()
    except KeyError:
        logging.getLogger(library).exception("Job %s failed", "release_leases")
    assert "Job release_leases failed" in _clean(stream)


def test_pydicom_warnings_are_reduced_to_their_class(stream: io.StringIO) -> None:
    """Pydicom quotes the value that it warns about."""
    DataElement(0x00100030, "DA", EVERYTHING)
    assert "UserWarning" in _clean(stream)


def test_uncaught_exceptions_do_not_speak(stream: io.StringIO) -> None:
    """A thread that dies, the interpreter that ends, a finaliser that fails: all come out through the same filter."""
    thread = threading.Thread(target=int, args=(EVERYTHING,))
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError(EVERYTHING), None)
    assert "uncaught exception" in _clean(stream, lines=2)


def test_a_line_that_cannot_be_formatted_is_silent(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library would print its arguments to standard error."""
    logging.getLogger("pynetdicom").error("%d", EVERYTHING)
    assert (stream.getvalue(), capsys.readouterr().err) == ("", "")


def test_libraries_speak_when_something_is_wrong_only(stream: io.StringIO) -> None:
    """Their every step is of no use to anybody, at whatever level we speak."""
    logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")
    get_logger("cxr_triage.x").debug("our step")
    assert ["our step" in line for line in stream.getvalue().splitlines()] == [True]


def test_enumerations_and_paths_are_ours(stream: io.StringIO) -> None:
    """Enumerations pass under any key, paths where the key says so."""

    class Colour(StrEnum):
        RED = "red"

    get_logger("cxr_triage.x").info("said", colour=Colour.RED, path=Path("incoming/1"), other=Path(NAME))
    written = _clean(stream)
    assert ("red" in written, "incoming/1" in written) == (True, True)


def test_lines_below_the_level_are_not_written() -> None:
    """The level of the settings holds for us and for libraries."""
    with _configured(LogSettings(level="error")) as written:
        get_logger("cxr_triage.x").info("quiet")
        logging.getLogger("alembic").warning("quiet")
    assert written.getvalue() == ""


def test_events_are_constant() -> None:
    """An event with values in it would pass the filter: values stand beside it, under their keys.

    A name is taken for the name of a constant.
    """
    methods = {"debug", "info", "warning", "error", "exception", "critical"}
    computed = [
        f"{path.relative_to(DAEMON)}:{node.lineno}"
        for path in DAEMON.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in methods
        and isinstance(node.func.value, ast.Name | ast.Call | ast.Attribute)
        and "log" in ast.unparse(node.func.value).lower()
        and not (node.args and isinstance(node.args[0], ast.Constant | ast.Name))
    ]
    assert computed == []


def test_library_speaks_again_after_it_was_silenced(stream: io.StringIO) -> None:
    """Silent inside the block, heard after it."""
    with silenced("pynetdicom"):
        logging.getLogger("pynetdicom").error("in between")
    assert stream.getvalue() == ""
    logging.getLogger("pynetdicom").error("afterwards")
    assert "pynetdicom" in _clean(stream)
