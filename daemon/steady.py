"""Libraries that measure their timeouts by the wall clock, made to measure them by one that nobody can set.

When the machine's clock is set forward, they would end what has just begun; when it is set back by years, they would
wait for years: a decoder that hangs would never be ended, a peer that went silent would keep its association for ever.
"""

import time
from types import ModuleType, SimpleNamespace


def measure_by_monotonic_clock(*modules: ModuleType) -> None:
    """Let each module's `time.time()` be `time.monotonic()`; the differences between two readings mean the same."""
    for module in modules:
        module.__dict__["time"] = SimpleNamespace(**vars(time) | {"time": time.monotonic})
