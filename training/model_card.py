"""A bundle's card -> the page that people read: `python -m cxr_triage.training.model_card > docs/model-card.md`."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from cxr_triage.model.bundle import Card, read_card
from cxr_triage.model.findings import ABNORMALITY_BY_NAME

HEAD: Final = """\
# Model card: {name} {version}

**Research software, not a medical device.** Not for diagnosis, not for use on children, not for other views than
frontal ones. An image without a finding is "not prioritised", never "normal".

This page is made from the bundle's card by `python -m cxr_triage.training.model_card`.

## What it is

One multi-task network after Guendel et al. 2019 (*Multi-task Learning for Chest X-ray Abnormality Classification on
Noisy Labels*): a shared {encoder} encoder, a head for abnormalities, a head for their location, and a decoder that
outlines left lung, right lung and heart. Input {size} x {size} pixels, one grey channel. Weights are stored as float16
and computed as float32; SHA-256 `{sha256}`. Their terms are not those of the code: `LICENSE-WEIGHTS.md` beside them.
"""

LIMITS: Final = """\
## Limits

- The abnormality labels were text-mined from reports and are noisy; a figure measured on them is measured on that
  noise. They were never compared with a radiologist's reading here.
- The training set is small and from few hospitals. The NIH images come from two selections with different labels, so a
  network can learn the selection: figures on one selection alone (`reference` below) are the more honest ones.
- Probabilities are calibrated to how frequent each label is among the validation images, which is not how frequent it
  is in a hospital. Thresholds were chosen on few images ({validation} NIH validation images).
- Labels with a handful of test positives have figures with a wide uncertainty, whatever their third digit says.
- Cardiothoracic ratios are measured on the outlines; an AP or supine image magnifies the heart.
- The gate refuses many images that are not frontal adult chest radiographs, not all. `benchmarks/gate.py` turns,
  inverts and cuts test radiographs and counts; a radiograph that shows only the upper third of a chest mostly passes.
  Of other body parts it was tried on a hip and a dog's thorax only, and refused both.
"""


def model_card(card: Card) -> str:
    """The page, Markdown."""
    figures = card.figures
    parts = [
        HEAD.format(
            name=card.name,
            version=card.version,
            encoder=card.network.encoder,
            size=card.network.input_size,
            sha256=card.sha256,
        ),
        _training(card),
        _operating_points(card),
        _measured(figures),
        LIMITS.format(validation=card.data["nih"]["validation"]),
    ]
    return "\n".join(parts)


def _training(card: Card) -> str:
    rows = [(source, *(str(counts[split]) for split in counts)) for source, counts in card.data.items()]
    settings = ", ".join(f"{name} {value}" for name, value in card.training.items())
    return (
        f"## What it learned from\n\nImages per source, split by patient with a hash:\n\n"
        f"{_table(('source', 'train', 'validation', 'test'), rows)}\n\n"
        f"Sources and their terms: `LICENSE-WEIGHTS.md`. Training: {settings}.\n\n"
        f"Half of the target on 612 NIH images, "
        f"where they are in the training part, is the probability that a public CheXNet reproduction gave "
        f"(distillation). Paediatric images warm up the encoder through an output of their own that is not reported.\n"
    )


def _operating_points(card: Card) -> str:
    rows = []
    for label in card.labels:
        code = ABNORMALITY_BY_NAME[label.name].code
        calibration = f"{label.calibration.scale:.2f} x logit {label.calibration.offset:+.2f}"
        rows.append((label.name, f"{code.value} {code.scheme} {code.meaning}", f"{label.threshold:.3f}", calibration))
    return (
        f"## What it reports\n\nThreshold: {card.threshold_rule}.\n\n"
        f"{_table(('label', 'code', 'threshold', 'calibration'), rows)}\n\n"
        f"Abnormal against normal: {card.abnormal_formula}.\n"
    )


def _measured(figures: Any) -> str:
    masks = figures["segmentation"]
    names = ("lungs", "left_lung", "right_lung", "heart")
    mask_rows = [(name, _number(masks[name]["dice"]), _number(masks[name]["iou"])) for name in names]
    classes, peer = figures["classification"], figures["reference"]
    raised = classes["any_finding"]
    label_rows = [
        (
            name,
            _number(row["auc"]),
            str(row["positives"]),
            *(_number(row[key]) for key in ("sensitivity", "specificity", "calibration_error")),
        )
        for name, row in classes["labels"].items()
    ]
    return f"""\
## What was measured

On {figures["images"]["evaluated"]} images of test patients, none of whom training or calibration saw; \
`cxr-triage evaluate --data FOLDER` repeats it.

Masks on {masks["images"]} images (JSRT and Wingspan), mean over images at 512 px:

{_table(("structure", "Dice", "IoU"), mask_rows)}

Cardiothoracic ratio: mean absolute error {_number(figures["ctr"]["mae"])} on {figures["ctr"]["images"]} images with a \
published ratio.

Abnormalities on {classes["images"]} NIH images:

{_table(("label", "AUC", "positives", "sensitivity", "specificity", "calibration error"), label_rows)}

Macro AUC {_number(classes["macro_auc"])}; abnormal against No Finding {_number(classes["abnormal_auc"])}. On the \
{peer["images"]} of them with a CheXNet reproduction's predictions, macro AUC over {len(peer["labels"])} labels: ours \
{_number(peer["macro_auc_ours"])}, theirs {_number(peer["macro_auc_reference"])}.

At the thresholds, {_percent(raised["sensitivity"])} of the abnormal images have at least one finding, and \
{_percent(raised["specificity"])} of the No Finding images have none.

Location, on {figures["location"]["images"]} images with boxes: macro AUC {_number(figures["location"]["macro_auc"])}.

The gate would have refused: {_refused(figures["refused"])}.
"""


def _refused(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


if __name__ == "__main__":
    sys.stdout.write(model_card(read_card(Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
