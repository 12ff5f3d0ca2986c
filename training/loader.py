"""Prepared radiographs -> batches. What a batch holds follows from the seed, the step and the micro-batch alone.

No generator's state is carried from step to step: a run that goes on from a checkpoint, and a run that several
processes share, see the same batches as one that one process made in one go.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from cxr_triage.training.augment import random_exposure, random_geometry, random_occlusion
from cxr_triage.training.cache import Images, SomeImages, prepared_images, prepared_masks
from cxr_triage.training.data import DataError, Sample, outlines_contradict
from cxr_triage.training.recipes import Recipe
from cxr_triage.training.sources import source_of
from cxr_triage.training.targets import Targets, targets_of
from cxr_triage.training.views import are_closer, jittered, matrices_of, seen, shrunk, whole_boxes

log = structlog.get_logger()

#: Coverage of a pixel, 0 to 255, above which it lies inside.
HALF: Final = 127
#: Batches that each thread makes ahead of the network.
AHEAD: Final = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """Prepared images and targets of one split, in memory or memory-mapped."""

    samples: list[Sample]
    #: Prepared, (N, S, S).
    images: Images
    #: Rows of `images` whose masks can be believed, and in the same order how much of each pixel they cover,
    #: (M, 3, S, S).
    masked_rows: NDArray[np.int64]
    masks: NDArray[np.uint8]
    targets: Targets

    @classmethod
    def of(cls, samples: list[Sample], outputs: Sequence[str], size: int, cache: Path) -> "TrainingSet":
        """Prepare the images (cached) and collect the targets.

        Args:
            samples: of the split.
            outputs: names of the abnormality outputs.
            size: side of the network's input, pixels.
            cache: folder of what is prepared.
        """
        masked_rows, masks = _outlined(samples, size)
        return cls(
            samples=samples,
            images=prepared_images(samples, size, cache),
            masked_rows=masked_rows,
            masks=masks,
            targets=targets_of(samples, outputs),
        )

    def rows_of(self, wanted: Callable[[Sample], bool]) -> NDArray[np.int64]:
        """Rows of the samples that are wanted."""
        return np.array([row for row, sample in enumerate(self.samples) if wanted(sample)], dtype=np.int64)

    def only(self, rows: NDArray[np.int64]) -> "TrainingSet":
        """These rows, without their masks."""
        return TrainingSet(
            samples=[self.samples[row] for row in rows],
            images=SomeImages(self.images, rows),
            masked_rows=self.masked_rows[:0],
            masks=self.masks[:0],
            targets=self.targets.only(rows),
        )


def _outlined(samples: Sequence[Sample], size: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Rows with masks and those masks, but for outlines that contradict one another."""
    rows = np.array([row for row, sample in enumerate(samples) if sample.mask], dtype=np.int64)
    masks = prepared_masks([samples[row] for row in rows], size)
    good = np.array([not outlines_contradict(mask > HALF) for mask in masks], dtype=np.bool_)
    if not good.all():
        left_out = [samples[row].id for row in rows[~good]]
        log.warning(
            "outlines_left_out",
            count=len(left_out),
            reason="a lung over the heart, or one outline for another",
            images=left_out,
        )
    return rows[good], masks[good]


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One micro-batch, augmented; the images with masks stand first."""

    #: (B, 1, S, S), [0, 1].
    images: Tensor
    #: Share covered per structure on the decoder's grid, (masked, structures, S/2, S/2).
    masks: Tensor
    #: Rows of the training set.
    rows: NDArray[np.int64]
    #: What the network's own randomness starts from.
    seed: int


class Loader:
    """Batches with a fixed share of each kind of image, for as many steps as anybody asks."""

    def __init__(self, data: TrainingSet, recipe: Recipe, *, threads: int = 1) -> None:
        self._data = data
        self._recipe = recipe
        self._threads = threads
        share = recipe.batch
        labelled = data.rows_of(lambda sample: source_of(sample.source).adult and bool(sample.labels))
        paediatric = data.rows_of(lambda sample: not source_of(sample.source).adult)
        #: Rows of each kind, and how many of them stand in a micro-batch.
        self._kinds = (
            ("masked", np.arange(len(data.masked_rows)), share.masked),
            ("labelled", labelled, share.labelled),
            ("paediatric", paediatric, share.paediatric),
        )
        for kind, rows, count in self._kinds:
            if len(rows) < count:
                raise DataError(
                    f"the recipe wants {count} {kind} images in each batch, the training part has {len(rows)}"
                )
        outlined = 0 if recipe.outlining is None else recipe.outlining.images
        if len(data.masked_rows) < outlined:
            raise DataError(
                f"the recipe wants {outlined} masked images in each batch of its last phase, "
                f"the training part has {len(data.masked_rows)}"
            )
        #: Where the network looks closer at each row, (N, 4) as views.WHOLE; None = not yet.
        self.boxes: NDArray[np.float32] | None = None
        self.steps_per_epoch = max(len(labelled) // (share.labelled * recipe.micro_batches), 1)
        #: Seconds that `ahead` kept its caller waiting, all together.
        self.waited = 0.0

    def batch(self, step: int, micro: int) -> Batch:
        """Micro-batch `micro` of step `step`: the same whoever asks, and whenever."""
        masked, *others = (
            self._drawn(kind, rows, count, step * self._recipe.micro_batches + micro)
            for kind, rows, count in self._kinds
        )
        seed = _seed(self._recipe.seed, "batch", step, micro)
        return self._augmented(masked, np.concatenate(others), seed)

    def outlined(self, step: int, count: int) -> Batch:
        """A batch of images with masks alone."""
        masked = self._drawn("outlined", np.arange(len(self._data.masked_rows)), count, step)
        return self._augmented(masked, masked[:0], _seed(self._recipe.seed, "outlined", step))

    def ahead(self, steps: range, micros: Sequence[int]) -> Iterator[Batch]:
        """The micro-batches of these steps in order, made in threads ahead of their use."""
        return self._ahead(partial(self.batch, step, micro) for step in steps for micro in micros)

    def outlined_ahead(self, steps: range, count: int) -> Iterator[Batch]:
        """The batches `outlined` of these steps, likewise."""
        return self._ahead(partial(self.outlined, step, count) for step in steps)

    def _ahead(self, makers: Iterable[Callable[[], Batch]]) -> Iterator[Batch]:
        with ThreadPoolExecutor(self._threads, thread_name_prefix="loader") as pool:
            waiting: deque[Future[Batch]] = deque()
            for maker in makers:
                waiting.append(pool.submit(maker))
                if len(waiting) > AHEAD * self._threads:
                    yield self._taken(waiting)
            while waiting:
                yield self._taken(waiting)

    def _taken(self, waiting: deque[Future[Batch]]) -> Batch:
        started = time.monotonic()
        batch = waiting.popleft().result()
        self.waited += time.monotonic() - started
        return batch

    def _drawn(self, kind: str, rows: NDArray[np.int64], count: int, draw: int) -> NDArray[np.int64]:
        """The rows of one draw: every row comes once before any comes again."""
        if count == 0:
            return rows[:0]
        per_pass = len(rows) // count
        turn, place = divmod(draw, per_pass)
        generator = Generator().manual_seed(_seed(self._recipe.seed, kind, turn))
        order: NDArray[np.int64] = torch.randperm(len(rows), generator=generator).numpy()
        return np.take(rows, order[place * count : (place + 1) * count])

    def _augmented(self, masked: NDArray[np.int64], others: NDArray[np.int64], seed: int) -> Batch:
        generator = Generator().manual_seed(seed)
        rows = np.concatenate([self._data.masked_rows[masked], others])
        boxes = self._boxes(rows, len(masked), generator)
        matrices = jittered(matrices_of(boxes), random_geometry(len(rows), generator))
        images = seen(self._data.images[rows], matrices, self._recipe.input_size, are_closer(boxes))
        images = random_occlusion(random_exposure(images, generator), generator)
        coverage = torch.from_numpy(self._data.masks[masked]).float() / 255
        masks = shrunk(coverage, matrices[: len(masked)], self._recipe.input_size // 2)
        return Batch(images=images, masks=masks, rows=rows, seed=seed)

    def _boxes(self, rows: NDArray[np.int64], masked: int, generator: Generator) -> NDArray[np.float32]:
        """What each image shows; outlines are learned at both looks, since the first one must find the second."""
        whole = whole_boxes(len(rows))
        if self.boxes is None:
            return whole
        closer = torch.ones(len(rows), dtype=torch.bool)
        closer[:masked] = torch.rand(masked, generator=generator) < 0.5
        return np.where(closer.numpy()[:, None], self.boxes[rows], whole)


def _seed(*parts: int | str) -> int:
    """A seed of 63 bits that depends on all parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
