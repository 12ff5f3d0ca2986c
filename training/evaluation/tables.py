"""Figures -> tables of text: what the terminal prints, the report shows and the model card's page quotes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rich.console import Console
from rich.table import Table as RichTable

from cxr_triage.training.evaluation.segmentation import COMPARED

#: What stands for a figure that does not exist.
NONE: Final = "-"
INTERVAL_NOTE: Final = "In brackets: 95 % interval over patients drawn anew."


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table, ready to be set."""

    #: What links it to its plots in the report.
    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(figures: Mapping[str, Any]) -> list[Table]:
    """Every table that the figures fill, in reading order."""
    made = [
        label_table(figures["classification"]),
        fold_table(figures["folds"]),
        strata_table(figures["strata"]),
        selection_table(figures["selection"]),
        reference_table(figures["reference"]),
        segmentation_table(figures["segmentation"]),
        ratio_table(figures["ctr"]),
        location_table(figures["location"]),
        localisation_table(figures["localisation"]),
        zones_table(figures.get("zones", {})),
        *_whereabouts_tables(figures.get("whereabouts")),
        gate_table(figures["gate"]),
    ]
    return [table for table in made if table is not None and table.rows]


def summary(figures: Mapping[str, Any]) -> list[str]:
    """What was done, a line each."""
    images = figures["images"]
    bundles = (f"{each['name']} {each['version']} ({each['sha256'][:12]})" for each in figures["bundles"])
    sources = ", ".join(f"{count} {source}" for source, count in images["by_source"].items())
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    lines = [
        f"{', '.join(bundles)} on {images['evaluated']} images of {images['patients']} patients, {figures['split']}.",
        f"Images by source: {sources}.",
        f"Images left out: {images['left_out']} outside the split, {images['without_a_figure']} without any truth.",
        f"Images of patients that training or calibration saw: {figures['seen_in_training']}.",
        f"Made on {figures['date']} with {versions}.",
    ]
    return lines if not figures["seen_in_training"] else [*lines, "Figures that hold seen patients are no promise."]


def label_table(figures: Mapping[str, Any]) -> Table:
    """Figures per label, and over labels."""
    rows = [
        (
            name,
            with_interval(row, "auc"),
            number(row["auprc"]),
            str(row["positives"]),
            str(row["negatives"]),
            number(row["sensitivity"]),
            number(row["specificity"]),
            with_interval(row, "calibration_error"),
        )
        for name, row in figures["labels"].items()
    ]
    blank = (NONE,) * 3
    known = (NONE, str(figures["abnormal_positives"]), str(figures["abnormal_negatives"]))
    raised = figures["any_finding"]
    rows += [
        (f"macro over {len(figures['macro_labels'])}", with_interval(figures, "macro_auc"), *blank, *blank),
        ("abnormal against No Finding", with_interval(figures, "abnormal_auc"), *known, *blank),
        ("at least one finding", *blank, NONE, number(raised["sensitivity"]), number(raised["specificity"]), NONE),
    ]
    return Table(
        name="labels",
        title=f"Abnormalities, {figures['images']} images of {figures['patients']} patients "
        f"({', '.join(figures['sources'])})",
        head=(
            *("label", "AUC", "AUPRC", "positives", "negatives"),
            *("sensitivity", "specificity", "calibration error"),
        ),
        rows=tuple(rows) if figures["labels"] else (),
        note=f"{INTERVAL_NOTE} Sensitivity and specificity at the operating thresholds.",
    )


def fold_table(figures: Mapping[str, Any] | None) -> Table | None:
    """Each fold's own AUC, and the mean over folds."""
    if figures is None:
        return None
    parts = [*figures["bundles"].items(), ("mean over bundles", figures["mean"])]
    return Table(
        name="folds",
        title="Bundles of the cross-validation, each on its own patients",
        head=("bundle", "images", "labels", "macro AUC", "abnormal AUC"),
        rows=tuple(
            (
                name,
                str(part.get("images", NONE)),
                str(len(part["macro_labels"])) if "macro_labels" in part else NONE,
                number(part["macro_auc"]),
                number(part["abnormal_auc"]),
            )
            for name, part in parts
        ),
        note="All other tables pool the images over the bundles.",
    )


def strata_table(figures: Mapping[str, Any]) -> Table:
    """Classification by part."""
    return Table(
        name="strata",
        title="Abnormalities by source, sex, age and view",
        head=("split by", "part", "images", "labels", "macro AUC", "abnormal AUC", "sensitivity", "specificity"),
        rows=tuple(
            (
                dimension,
                name,
                str(part["images"]),
                str(len(part["macro_labels"])),
                with_interval(part, "macro_auc"),
                with_interval(part, "abnormal_auc"),
                number(part["any_finding"]["sensitivity"]),
                number(part["any_finding"]["specificity"]),
            )
            for dimension, parts in figures.items()
            for name, part in parts.items()
        ),
        note="The macro AUC counts labels with at least 5 positives and negatives in the part, so parts that count "
        "different labels cannot be compared by it. Sensitivity and specificity of at least one finding.",
    )


def selection_table(figures: Mapping[str, Any] | None) -> Table | None:
    """The source shortcut check."""
    if figures is None:
        return None
    parts = ("together", "with_reference", "without_reference")
    normal = figures["among_normal"]
    rows = [
        (
            label,
            *(number(figures[part]["labels"][label]) for part in parts),
            with_interval(normal["labels"][label], "auc"),
        )
        for label in figures["together"]["labels"]
    ]
    rows.append(("macro", *(with_interval(figures[part], "macro_auc") for part in parts), NONE))
    rows.append(("images", *(str(figures[part]["images"]) for part in parts), str(normal["images"])))
    return Table(
        name="selection",
        title="Source shortcut check: AUC within each selection of the images",
        head=(
            *("label", "both selections", "with reference predictions", "without"),
            "selection from probability, No Finding images",
        ),
        rows=tuple(rows),
        note=f"Both together minus the mean within each: {with_interval(figures, 'drop')}. A network that tells the "
        "selections apart instead of the disease loses when each is looked at on its own, and its probabilities tell "
        "the selection of images without a finding (last column; 0.5 = not at all).",
    )


def reference_table(figures: Mapping[str, Any]) -> Table | None:
    """Ours beside the reference predictions."""
    if figures["macro"] is None:
        return None
    rows = [*figures["labels"].items(), (f"macro over {len(figures['labels'])}", figures["macro"])]
    return Table(
        name="reference",
        title=f"Beside the reference predictions, on the same {figures['images']} images",
        head=("label", "AUC", "reference's AUC", "difference"),
        rows=tuple(
            (name, *(with_interval(row, key) for key in ("ours", "reference", "difference"))) for name, row in rows
        ),
        note="Difference: ours - reference, paired. Labels with at least 5 positives and negatives.",
    )


def segmentation_table(figures: Mapping[str, Any]) -> Table:
    """Masks: of all images, of those whose true outlines can be believed, and by source."""
    return Table(
        name="segmentation",
        title=f"Masks, {figures['images']} images",
        head=("images of", "structure", "Dice", "IoU", "HD95, px", "HD95, mm", "worst Dice in"),
        rows=tuple(
            (
                f"{source} ({part['images']})",
                name,
                *(_spread(part[name][key], digits) for key, digits in _MASK_COLUMNS),
                part[name]["worst_id"],
            )
            for source, part in _believed_and_by_source(figures).items()
            for name in COMPARED
            if name in part
        ),
        note="Mean / median / worst. Distances on the 512 x 512 grid; mm where the source's spacing is known (all "
        "images: only those).",
    )


_MASK_COLUMNS: Final = (("dice", 3), ("iou", 3), ("hd95_px", 1), ("hd95_mm", 1))


def _spread(values: Mapping[str, float] | None, digits: int) -> str:
    return NONE if values is None else " / ".join(f"{values[key]:.{digits}f}" for key in ("mean", "median", "worst"))


def ratio_table(figures: Mapping[str, Any]) -> Table:
    """Agreement with the true cardiothoracic ratios: of all images, of those that can be believed, and by source."""
    parts = {name: part for name, part in _believed_and_by_source(figures).items() if part["mae"] is not None}
    return Table(
        name="ratio",
        title=f"Cardiothoracic ratio, {figures['images']} images",
        head=("images of", "mean absolute error", "bias", "limits of agreement", "largest error", "without outline"),
        rows=tuple(
            (
                f"{name} ({part['images']})",
                with_interval(part, "mae"),
                with_interval(part, "bias"),
                "{:.3f} to {:.3f}".format(*part["limits_of_agreement"]),
                f"{part['worst_error']:.3f} in {part['worst_id']}",
                str(part["without_outline"]),
            )
            for name, part in parts.items()
        ),
        note="True: published, or measured on the true outlines. Bias: ours - true.",
    )


def _believed_and_by_source(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A figure of outlines by what it is of: all images, those whose true outlines can be believed, each source."""
    consistent = {"true outlines without contradiction": figures["consistent"]} if figures["contradictory"] else {}
    return {"all": figures, **consistent, **figures["by_source"]}


def location_table(figures: Mapping[str, Any]) -> Table:
    """AUC per location."""
    rows = [(name, with_interval(row, "auc"), str(row["positives"])) for name, row in figures["labels"].items()]
    return Table(
        name="location",
        title=f"Location, {figures['images']} images with boxes",
        head=("location", "AUC", "positives"),
        rows=(*rows, ("macro", with_interval(figures, "macro_auc"), NONE)) if rows else (),
    )


def localisation_table(figures: Mapping[str, Any]) -> Table:
    """Saliency against boxes."""
    return Table(
        name="localisation",
        title="Saliency maps against radiologists' boxes",
        head=(
            *("boxes of", "map of", "images", "boxes", "without map", "pointing game", "IoU", "at threshold"),
            *("IoU above both lungs'", "chance, lung box", "chance, image"),
        ),
        rows=tuple(
            (
                name,
                row["map"],
                *(str(row[key]) for key in ("images", "boxes", "without_map")),
                with_interval(row, "pointing"),
                with_interval(row, "iou"),
                f"{row['iou_threshold']:.2f}",
                with_interval(row, "gain") if "gain" in row else NONE,
                number(row["chance_lung_box"]),
                number(row["chance_image"]),
            )
            for name, row in figures.items()
        ),
        note="Pointing game: how often the map's maximum lies in a box, without tolerance. IoU at the threshold, a "
        "share of the map's maximum, that is best on these images; how far it is above that of both lungs' outlines. "
        "Chance: the share of the lungs' box, or of the image, that boxes cover.",
    )


def zones_table(figures: Mapping[str, Any]) -> Table:
    """Side and third of maps against those of boxes."""
    return Table(
        name="zones",
        title="Side and third of the lungs, by maps' maxima, against radiologists' boxes",
        head=("map of", "images", "boxes on one side", "side", "third", "best third for all"),
        rows=tuple(
            (
                name,
                str(row["images"]),
                f"{row['one_sided']} ({row['left']} left)",
                with_interval(row, "side"),
                with_interval(row, "third"),
                number(row["third_guess"]),
            )
            for name, row in figures.items()
        ),
        note="Side: balanced accuracy on images with boxes on one side alone. Third: how often the maximum lies in the "
        "third of a box's centre.",
    )


def _whereabouts_tables(figures: Mapping[str, Any] | None) -> Iterator[Table]:
    """The same tables of the images that the card's word on where findings lie rests on."""
    if figures is None:
        return
    rests_on = f"{figures['images']['evaluated']} images by {len(figures['bundles'])} bundles of a cross-validation"
    for table in (localisation_table(figures["localisation"]), zones_table(figures["zones"])):
        yield replace(table, name=f"whereabouts_{table.name}", title=f"{table.title}: {rests_on}")


def gate_table(figures: Mapping[str, Any]) -> Table:
    """Refusals, by age group."""
    return Table(
        name="gate",
        title="What the gate would refuse of these chest radiographs",
        head=("patients", "images", "refused", "reasons"),
        rows=tuple(
            (
                {"unknown": "of unknown age"}.get(group, group),
                str(row["images"]),
                with_interval(row, "rate"),
                ", ".join(f"{count} {reason}" for reason, count in sorted(row["refused"].items())) or NONE,
            )
            for group, row in figures.items()
            if row["images"]
        ),
        note="Of adults, the share refused is the false rejection rate. Figures in the other tables count refused "
        "images as well.",
    )


def number(value: float | None) -> str:
    """Three decimals."""
    return NONE if value is None else f"{value:.3f}"


def with_interval(figures: Mapping[str, Any], key: str) -> str:
    """A figure with its interval behind it in brackets."""
    bounds = figures[f"{key}_interval"]
    return number(figures[key]) if bounds is None else f"{figures[key]:.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def show(figures: Mapping[str, Any], console: Console) -> None:
    """Print what was done and every table."""
    for line in summary(figures):
        console.print(line, highlight=False)
    for table in tables(figures):
        rich = RichTable(*table.head, title=table.title, caption=table.note or None)
        for row in table.rows:
            rich.add_row(*row)
        console.print(rich)
