"""The best and the worst cases as pictures: outlines over radiographs, saliency beside boxes. Predicted once more."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cxr_triage.model.findings import STRUCTURES
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.predictor import Predictor
from cxr_triage.training.data import read_image, read_mask
from cxr_triage.training.evaluation.saliency import MIN_BOXES, map_of
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.evaluation.scoring import radiograph_of
from cxr_triage.training.evaluation.segmentation import COMPARED

#: How many cases are shown of each structure, and of each label with boxes.
BEST: Final = 1
WORST: Final = 2
#: Side of a picture, inches.
SIDE: Final = 3.2
TRUTH_COLOUR: Final = "yellow"
OWN_COLOUR: Final = "deepskyblue"
BOX_COLOUR: Final = "lime"
#: The masks that make up what is compared, by their place in STRUCTURES.
CHANNELS: Final[Mapping[str, tuple[int, ...]]] = {
    **{structure.name: (index,) for index, structure in enumerate(STRUCTURES)},
    "lungs": (0, 1),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """One case."""

    figure: Figure
    #: What it shows, with the image's id.
    caption: str


def overlays(scored: Sequence[Scored], predictors: Sequence[Predictor]) -> list[Picture]:
    """Contours of truth and prediction, of the best and the worst cases per structure by Dice."""
    masked = [row for row in scored if row.overlap]
    return [
        Picture(
            figure=_outlines(row, _predicted(row, predictors), CHANNELS[name]),
            caption=f"{name}, {rank}: Dice {row.overlap[name].dice:.3f}, {row.sample.source} {row.sample.id}",
        )
        for name in COMPARED
        for rank, row in _extremes(sorted(masked, key=lambda row: row.overlap[name].dice))
    ]


def saliency_examples(scored: Sequence[Scored], predictors: Sequence[Predictor]) -> list[Picture]:
    """Saliency maps with their boxes, best and worst by the largest IoU, per label with enough boxes."""
    made = []
    for label in sorted({label for row in scored for label in row.localisation}):
        boxed = [row for row in scored if label in row.localisation]
        if sum(row.localisation[label].boxes for row in boxed) < MIN_BOXES:
            continue
        for rank, row in _extremes(sorted(boxed, key=lambda row: max(row.localisation[label].ious))):
            iou = max(row.localisation[label].ious)
            caption = f"{label}, {rank}: IoU {iou:.3f}, {row.sample.source} {row.sample.id}"
            made.append(Picture(figure=_saliency(row, _predicted(row, predictors), label), caption=caption))
    return made


def _extremes(ranked: Sequence[Scored]) -> Iterator[tuple[str, Scored]]:
    """The best, then the worst, of images in rising order."""
    for row in ranked[-BEST:]:
        yield "best", row
    for row in ranked[:-BEST][:WORST]:
        yield "worst", row


def _predicted(row: Scored, predictors: Sequence[Predictor]) -> Prediction:
    own = next(predictor for predictor in predictors if predictor.identity == row.bundle)
    return own.predict(radiograph_of(row.sample))


def _outlines(row: Scored, prediction: Prediction, channels: Sequence[int]) -> Figure:
    assert row.sample.mask is not None
    figure, axes = _radiograph(row)
    truth_CHW = read_mask(row.sample.mask)
    for masks_CHW, colour in ((truth_CHW, TRUTH_COLOUR), (prediction.masks_CHW, OWN_COLOUR)):
        for channel in channels:
            if masks_CHW[channel].any():
                axes.contour(masks_CHW[channel], levels=[0.5], colors=colour, linewidths=1)
    return figure


def _saliency(row: Scored, prediction: Prediction, label: str) -> Figure:
    figure, axes = _radiograph(row)
    map_HW = map_of(prediction, label)
    rows, columns = map_HW.shape
    axes.imshow(map_HW, cmap="inferno", alpha=0.45, vmin=0, vmax=255)
    for box in (region for region in row.sample.regions if region.label == label):
        corner, width, height = (box.x0 * columns, box.y0 * rows), (box.x1 - box.x0) * columns, (box.y1 - box.y0) * rows
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=BOX_COLOUR))
    return figure


def _radiograph(row: Scored) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIDE, SIDE))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(read_image(row.sample.image), cmap="gray", vmin=0, vmax=1)
    return figure, axes
