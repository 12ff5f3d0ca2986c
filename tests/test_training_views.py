"""What training shows the network is what the service shows it."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cxr_triage.model.preparation import CLOSER_MARGINS, Frame, closer_frame, frame_of, prepare, recut, restore
from cxr_triage.training.augment import random_geometry
from cxr_triage.training.views import are_closer, jittered, matrices_of, seen, whole_boxes
from miniature import drawn_chest


def prepared(size: int = 128) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A drawn chest of 512 pixels with a gradient, and its prepared form."""
    pixels, _ = drawn_chest(512)
    pixels = pixels * 0.8 + np.linspace(0, 0.2, 512, dtype=np.float32)
    image = prepare(pixels, frame_of(pixels), size)[0].numpy()
    return pixels, np.round(image * 255).astype(np.uint8)[None]


def test_whole_frame_is_seen_as_it_was_prepared() -> None:
    """At the network's size pixel by pixel, at twice the size averaged in pairs."""
    pixels, images = prepared(128)
    nobody = np.zeros(1, dtype=np.bool_)
    same = seen(images, matrices_of(whole_boxes(1)), 128, nobody)
    assert np.allclose(same[0, 0].numpy() * 255, images[0], atol=0.01)
    half = seen(images, matrices_of(whole_boxes(1)), 64, nobody)
    service = prepare(pixels, frame_of(pixels), 64)
    assert float((half[0] - service).abs().mean()) < 0.01


def test_closer_look_is_that_of_the_service() -> None:
    """The same rectangle, stretched the same way, the same window."""
    pixels, images = prepared(256)
    frame = frame_of(pixels)
    box = np.array([[0.5, 0.45, 0.7, 0.5]], dtype=np.float32)
    view = seen(images, matrices_of(box), 64, are_closer(box))
    height, width = round(0.7 * frame.height), round(0.5 * frame.width)
    top, left = frame.top + 0.5 * frame.height - height / 2, frame.left + 0.45 * frame.width - width / 2
    closer = Frame(round(top), round(left), height, width, frame.source_shape)
    assert float((view[0] - prepare(pixels, closer, 64)).abs().mean()) < 0.02


def test_jitter_moves_what_is_cut_out() -> None:
    """The change is made within the box: a shift of half the view moves by half the box's width."""
    box = np.array([[0.5, 0.5, 0.8, 0.5]], dtype=np.float32)
    shift = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    moved = jittered(matrices_of(box), shift)
    expected = matrices_of(np.array([[0.5, 0.5 + 0.5 * 0.5 / 2, 0.8, 0.5]], dtype=np.float32))
    assert torch.allclose(moved, expected)
    generator = torch.Generator().manual_seed(0)
    jitter = random_geometry(3, generator)
    assert torch.allclose(jittered(matrices_of(whole_boxes(3)), jitter), jitter)


def logits(*boxes: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Mask logits on a grid of 32: a box (top, bottom, left, right) per structure."""
    maps = np.full((3, 32, 32), -1, dtype=np.float32)
    for channel, (top, bottom, left, right) in zip(maps, boxes, strict=True):
        channel[top:bottom, left:right] = 1
    return maps


def test_maps_of_one_look_can_be_laid_over_those_of_the_next() -> None:
    """Both brought back to the radiograph say the same where both look."""
    rows, columns = np.mgrid[0:64, 0:64] / 64
    maps = torch.from_numpy(np.stack([np.sin(3 * rows) + columns, rows - columns**2])).float()
    frame, closer = Frame(-10, 0, 220, 220, (200, 220)), Frame(40, 30, 120, 150, (200, 220))
    whole = restore(maps, frame)
    again = restore(recut(maps, frame, closer), closer)
    inside = np.s_[:, 45:155, 35:175]
    assert float((whole[inside] - again[inside]).abs().max()) < 0.02


def test_closer_frame_surrounds_the_lungs() -> None:
    """With its margins, in source pixels; the heart does not move it."""
    frame = Frame(10, 20, 320, 320, (400, 400))
    closer = closer_frame(frame, logits((6, 20, 18, 26), (6, 20, 6, 14), (14, 24, 12, 20)))
    above, below, beside, _ = CLOSER_MARGINS
    assert closer.top == round(10 + (6 - above * 14) * 10)
    assert closer.height == round(14 * (1 + above + below) * 10)
    assert closer.left == round(20 + (6 - beside * 20) * 10)
    assert closer.width == round(20 * (1 + 2 * beside) * 10)
    assert closer.source_shape == frame.source_shape


@pytest.mark.parametrize(
    "boxes",
    [
        ((6, 20, 18, 26), (0, 0, 0, 0), (14, 24, 12, 20)),
        ((6, 8, 18, 20), (6, 8, 14, 16), (8, 9, 16, 18)),
    ],
    ids=["one lung", "too small"],
)
def test_whole_frame_stays_where_the_outlines_are_not_to_be_believed(
    boxes: tuple[tuple[int, int, int, int], ...],
) -> None:
    """A closer look at the wrong place would be worse than none."""
    frame = Frame(10, 20, 320, 320, (400, 400))
    assert closer_frame(frame, logits(*boxes)) == frame
