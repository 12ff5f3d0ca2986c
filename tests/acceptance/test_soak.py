"""The soak in short: the same run, with bounds that a small number of images can tell."""

from pathlib import Path

import pytest

from soak.run import Plan, soak

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1500)]

#: Memory is read in pages and given out in arenas, so that over 140 images the slope of a role that keeps nothing comes
#: out at up to 15 kB an image. Whoever keeps one image, 64 kB of pixels, or what an association was made of, is above.
PLAN = Plan(images=240, warm_up=100, every=10, most_bytes=32 * 1024)


def test_nothing_grows_with_images_and_associations(tmp_path: Path) -> None:
    """240 images, 240 associations, half of them broken off: nothing lost, doubled, left behind or growing."""
    with soak(tmp_path, PLAN) as running:
        outcome = running.run()
    assert outcome.violations == []
    assert outcome.associations == PLAN.images
