"""How long to wait before another attempt."""

import pytest

from cxr_triage.daemon.backoff import doubled


def test_the_wait_doubles_up_to_the_longest() -> None:
    """From the first failure on."""
    assert [doubled(5, 60, failures=failures) for failures in (1, 2, 3, 4, 5, 6)] == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize("failures", [63, 1_025, 10**9])
def test_any_number_of_failures_has_a_wait(failures: int) -> None:
    """A role may have been crashing for weeks."""
    assert doubled(0.5, 60.0, failures=failures) == 60.0
