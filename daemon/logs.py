"""structlog, configured once, to standard error. What is not known to be free of patient data is withheld.

Our events are constant strings with values beside them. A string value is written only under a key of `SPEAKING_KEYS`,
or when it is a UID or one of our enumerations. Text of other libraries, of their exceptions and of warnings is withheld
(pynetdicom and pydicom quote element values, SQLAlchemy quotes rows): what remains is who, what class, and which line.
"""

import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from numbers import Number
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.model.errors import TriageError

#: Keys whose strings are ours or the configuration's. UIDs need not stand here.
SPEAKING_KEYS: Final = frozenset(
    {
        *("event", "level", "logger", "timestamp", "where", "role", "exception", "error_class", "category"),
        *("calling_ae_title", "called_ae_title", "destination", "address", "database", "folder", "path"),
        *("alert", "subject"),
        *("job", "kind", "reason", "explanation", "receipt", "state", "status"),
    }
)
#: Libraries whose messages never quote data: our own server's, the migrations', and the clock's.
SPEAKING_LIBRARIES: Final = frozenset({"uvicorn", "alembic", "apscheduler"})
#: PS3.5 9.1: digits and dots, at most 64 characters; ours start with a root of 0, 1 or 2.
UID: Final = re.compile(r"[012](\.\d+)+")
UID_LENGTH: Final = 64
WITHHELD: Final = "withheld"
#: Root of the names of our own loggers.
OURS: Final = "cxr_triage"
#: Numbers pass under any key but these.
_PERSONAL_KEY: Final = re.compile(r"patient|birth|accession|issuer|referring|study_id|name", re.IGNORECASE)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; usable before `configure_logs`, which decides what becomes of its lines."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))


@contextmanager
def silenced(library: str) -> Iterator[None]:
    """Let a library's logger be silent for a while, where somebody else says the same better."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def configure_logs(settings: LogSettings, *, role: str, stream: TextIO | None = None) -> None:
    """Route everything that this process says through the one renderer. Every process of ours calls it first."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(settings.format, role=role, colours=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries tell their every step at lower levels, and most of their text would be withheld anyway.
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger(OURS).setLevel(level)
    _silence_side_doors()
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=_logger_of,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def describe(error: BaseException) -> str:
    """An exception in one line that may be shown: its class, and its message only if the message is ours."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, TriageError):
        return f"{kind.__qualname__}: {error}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: {os.strerror(error.errno)}"
    return name


def describe_with_frames(error: BaseException) -> str:
    """An exception and its causes: classes and `file:line function`, never messages, locals or source lines."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [describe(error), *(f"  {f.f_code.co_filename}:{line} {f.f_code.co_name}" for f, line in frames)]
    if isinstance(error, BaseExceptionGroup):
        lines += [describe_with_frames(inner) for inner in error.exceptions]
    if error.__cause__ is not None:
        lines += ["caused by " + describe_with_frames(error.__cause__)]
    elif error.__context__ is not None and not error.__suppress_context__:
        lines += ["while handling " + describe_with_frames(error.__context__)]
    return "\n".join(lines)


def keep_patients_out(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Withhold every value that is not known to be harmless."""
    return {key: _harmless(key, value) for key, value in event.items()}


def _harmless(key: str, value: Any) -> Any:
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, Enum):
        return value.name if isinstance(value.value, int) else value.value
    if isinstance(value, Path) and key in SPEAKING_KEYS:
        return str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [_harmless(key, item) for item in value]
    return value if _is_harmless(key, value) else WITHHELD


def _is_harmless(key: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, Number):
        return not _PERSONAL_KEY.search(key)
    return isinstance(value, str) and (key in SPEAKING_KEYS or _is_uid(value))


def _is_uid(value: str) -> bool:
    return len(value) <= UID_LENGTH and UID.fullmatch(value) is not None


def _withhold_foreign_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Lines of other libraries: who spoke and where; the words only where they are known to be harmless."""
    record: logging.LogRecord = event["_record"]
    event["where"] = f"{record.pathname}:{record.lineno}"
    if record.name.partition(".")[0] not in SPEAKING_LIBRARIES:
        event["event"] = "library message withheld"
    return event


def _render_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event.pop("stack_info", None)
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event["exception"] = describe_with_frames(error)
    return event


def _formatter(style: str, *, role: str, colours: bool) -> logging.Formatter:
    def name_role(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["role"] = role
        return event

    common: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_role,
        _render_exception,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(default=lambda _: WITHHELD)
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=colours, repr_native_str=True, exception_formatter=structlog.dev.plain_traceback
        )
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_withhold_foreign_text],
        processors=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *common,
            keep_patients_out,
            renderer,
        ],
    )


def _logger_of(name: str = OURS, *_: str) -> logging.Logger:
    return logging.getLogger(name)


def _silence_side_doors() -> None:
    """Python's own ways to standard error quote values too: take them all."""
    # A line whose arguments do not fit would be printed with its arguments.
    logging.raiseExceptions = False
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Takes the place of `warnings.showwarning`; the message may quote an element's value."""
    del message, file, line
    get_logger(f"{OURS}.warnings").warning("warning", category=category.__qualname__, where=f"{filename}:{lineno}")


def _log_uncaught(kind: type[BaseException], error: BaseException | None, frames: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    if error is None:
        error = kind().with_traceback(frames)
    get_logger(OURS).error("uncaught exception", exc_info=error)
