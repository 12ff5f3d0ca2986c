"""An evaluation -> a folder with report.json and one report.html that holds all of its plots and pictures."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

import matplotlib as mpl
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from cxr_triage.model.predictor import Predictor
from cxr_triage.training.evaluation.classification import multi_label
from cxr_triage.training.evaluation.figures import Evaluation
from cxr_triage.training.evaluation.pictures import OWN_COLOUR, TRUTH_COLOUR, Picture, overlays, saliency_examples
from cxr_triage.training.evaluation.plots import bland_altman, dice_distribution, reliability, roc
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.evaluation.tables import summary, tables

JSON_NAME: Final = "report.json"
HTML_NAME: Final = "report.html"

#: Plots by the table that they stand below, with what they show.
PLOTS: Final[Mapping[str, tuple[tuple[str, Callable[[Sequence[Scored]], Figure | None]], ...]]] = {
    "labels": (("ROC curves", roc), ("Reliability diagrams", reliability)),
    "segmentation": (("Dice per structure and source", dice_distribution),),
    "ratio": (("Bland-Altman plot of the cardiothoracic ratio", bland_altman),),
}


def write_report(evaluation: Evaluation, predictors: Sequence[Predictor], folder: Path) -> None:
    """Write both files; the folder is made when it does not exist.

    Args:
        evaluation: what to report.
        predictors: the bundles that made it: a few cases are predicted once more for their pictures.
        folder: where to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_NAME).write_text(json.dumps(evaluation.figures, indent=1) + "\n", encoding="utf-8")
    (folder / HTML_NAME).write_text(html(evaluation, predictors), encoding="utf-8")


def html(evaluation: Evaluation, predictors: Sequence[Predictor]) -> str:
    """The page: it refers to nothing outside of itself, and names images by their id only."""
    environment = Environment(
        loader=PackageLoader("cxr_triage.training.evaluation", "."), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html.j2").render(
        summary=summary(evaluation.figures),
        tables=tables(evaluation.figures),
        plots=_plots(evaluation.scored),
        overlays=_embedded(overlays(evaluation.scored, predictors)),
        saliency=_embedded(saliency_examples(evaluation.scored, predictors)),
        colours={"truth": TRUTH_COLOUR, "prediction": OWN_COLOUR},
    )


def _plots(scored: Sequence[Scored]) -> dict[str, list[tuple[str, str]]]:
    """Title and image address of each plot, by the name of its table."""
    pooled = multi_label(scored)
    return {
        name: [
            (title, image_uri(figure, "svg"))
            for title, draw in below
            if (figure := draw(pooled if name == "labels" else scored)) is not None
        ]
        for name, below in PLOTS.items()
    }


def _embedded(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
    return [(picture.caption, image_uri(picture.figure, "png")) for picture in pictures]


def image_uri(figure: Figure, kind: Literal["svg", "png"]) -> str:
    """A figure as the address of an image that carries its own bytes."""
    buffer = BytesIO()
    # The same figure gives the same bytes.
    with mpl.rc_context({"svg.hashsalt": "cxr-triage"}):
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    media = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{media};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
