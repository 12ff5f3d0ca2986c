"""Logging is the process' own: a test that configures it puts everything back."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def kept_logging() -> Iterator[None]:
    """Restore handlers, levels, hooks and the warnings' way out, whatever the block did to them."""
    root, ours = logging.getLogger(), logging.getLogger("cxr_triage")
    handlers, levels, raising = root.handlers[:], (root.level, ours.level), logging.raiseExceptions
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    with warnings.catch_warnings():
        yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    structlog.reset_defaults()
