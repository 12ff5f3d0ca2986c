"""Hundreds of images, half of the associations broken off: nothing is lost, nothing doubled, nothing held for ever."""

import gc
from pathlib import Path

import pytest

from peers import REFUSED_CONNECTION
from soak.run import Plan, soak

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(1500),
    # Peers that go away in the middle, as the soak's do.
    pytest.mark.filterwarnings(REFUSED_CONNECTION),
]

#: Over so few images memory still finds its level: what waits for the garbage collector and for malloc came out at up
#: to 41 kB an image. An image that is kept is 264 kB and more. The long form judges to the kilobyte.
MOST_BYTES = 100_000


def test_a_soak_in_short(tmp_path: Path) -> None:
    """As `make soak`, over 240 images and as many associations."""
    plan = Plan(images=240, warm_up=120, every=10, most_bytes=MOST_BYTES, step=1)
    with soak(tmp_path, plan) as running:
        outcome = running.run()
    gc.collect()  # what a sender left unclosed is collected here, where it is no error
    assert outcome.violations == []
    assert outcome.associations == plan.images
