"""A bundle's card -> the page that people read: `python -m cxr_triage.training.model_card > docs/model-card.md`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cxr_triage.model.bundle import BUNDLED, Card, LabelCard, Whereabouts, read_card
from cxr_triage.model.findings import ABNORMALITY_BY_NAME
from cxr_triage.training.evaluation.tables import Table, markdown, summary, tables

#: What whoever trained a bundle has to say of it beside its figures, in its folder; it need not be there.
NOTES_NAME: Final = "NOTES.md"

HEAD: Final = """\
# Model card: {name} {version}

**Research software, not a medical device.** Not for diagnosis, not for use on children, not for other views than
frontal ones. An image without a finding is "not prioritised", never "normal".

This page is made from the bundle's card by `python -m cxr_triage.training.model_card`.

## What it is

One multi-task network after Guendel et al. 2019 (*Multi-task Learning for Chest X-ray Abnormality Classification on
Noisy Labels*): a shared {encoder} encoder, a head for abnormalities, a head for their location, and a decoder that
outlines left lung, right lung and heart{own}. Input {size} x {size} pixels, one grey channel.
Weights are stored as float16 and computed as float32; SHA-256 `{sha256}`. Their terms are not those of the code:
`LICENSE-WEIGHTS.md` beside them.
"""

LIMITS: Final = """\
## Limits

- The abnormality labels were text-mined from reports and are noisy; a figure measured on them is measured on that
  noise. They were never compared with a radiologist's reading here.
- The training set is small and from few hospitals. The NIH images come from two selections with different labels, so a
  network can learn the selection: the source shortcut check above says how far this one did, within few images.
- Probabilities are calibrated to how frequent each label is among the images that they were calibrated on, which is not
  how frequent it is in a hospital; a threshold's specificity depends on whom a hospital images.
- Labels with a handful of test positives have figures with a wide uncertainty, whatever their third digit says.
- Cardiothoracic ratios are measured on the outlines; an AP or supine image magnifies the heart.
- An image is never turned round by its anatomy. A heart on the patient's right is remarked on, where outlines show it.
- The gate refuses many images that are not frontal adult chest radiographs, not all. `benchmarks/gate.py` turns,
  inverts and cuts test radiographs and counts.
"""


def model_card(bundle: Path | None) -> str:
    """The page of a bundle, Markdown; None = the bundled one.

    Raises:
        BundleError: its card cannot be read.
    """
    card, notes = read_card(bundle), (bundle or BUNDLED) / NOTES_NAME
    figures = card.figures
    parts = [
        HEAD.format(
            name=card.name,
            version=card.version,
            encoder=card.network.encoder,
            own=" by deeper blocks of its own" if card.network.own_outlining else "",
            size=card.network.input_size,
            sha256=card.sha256,
        ),
        _training(card),
        _operating_points(card),
        _measured(figures),
        LIMITS,
        *([notes.read_text(encoding="utf-8")] if notes.exists() else []),
    ]
    return "\n".join(parts)


def _training(card: Card) -> str:
    rows = [(source, *(str(counts[split]) for split in counts)) for source, counts in card.data.items()]
    settings = ", ".join(f"{name} {value}" for name, value in card.training.items())
    return (
        f"## What it learned from\n\nImages per source, split by patient with a hash:\n\n"
        f"{markdown(('source', 'train', 'validation', 'test'), rows)}\n\n"
        f"Sources and their terms: `LICENSE-WEIGHTS.md`. Training: {settings}.\n"
    )


def _operating_points(card: Card) -> str:
    head = ("label", "code", "AUC (95 %)", "for triage", "threshold", "specificity", "calibration", "map tells")
    return (
        f"## What it reports\n\n{card.operating_rule[0].upper()}{card.operating_rule[1:]}. A finding that is not for "
        f"triage is reported, and raises no study unless the site gives it a weight (`[worklist] severity`).\n\n"
        "Where a finding lies is told as far as its map was measured to tell it: by a lower bound above chance.\n\n"
        f"Sensitivity {card.sensitivity:g}, unless the site chooses another one (`[model] sensitivity`).\n\n"
        f"{markdown(head, [_label(label, card.sensitivity) for label in card.labels])}\n\n"
        f"Specificity at each sensitivity:\n\n{_specificities(card)}\n\n"
        f"Abnormal against normal: {card.abnormal_formula}.\n"
    )


def _label(label: LabelCard, sensitivity: float) -> tuple[str, ...]:
    code, point = ABNORMALITY_BY_NAME[label.name].code, label.at(sensitivity)
    return (
        label.name,
        f"{code.value} {code.scheme} {code.meaning}",
        "unknown" if label.auc is None else "{:.3f} ({:.3f} to {:.3f})".format(*label.auc),
        "yes" if label.for_triage else "no",
        f"{point.threshold:.3f}",
        f"{point.specificity:.2f}",
        f"{label.calibration.scale:.2f} x logit {label.calibration.offset:+.2f}",
        ", ".join(_told(label.whereabouts)) or "nothing",
    )


def _told(whereabouts: Whereabouts) -> Iterator[str]:
    yield from (name for name in ("side", "third") if getattr(whereabouts, name))
    if whereabouts.outline_at is not None:
        yield f"outline at {whereabouts.outline_at:.2f}"


def _specificities(card: Card) -> str:
    head = ("label", *(f"{point.sensitivity:g}" for point in card.labels[0].operating_points))
    rows = [(label.name, *(f"{point.specificity:.2f}" for point in label.operating_points)) for label in card.labels]
    return markdown(head, rows)


def _measured(figures: Mapping[str, Any]) -> str:
    """Every table of the evaluation that is on the card."""
    done = "\n".join(f"- {line}" for line in summary(figures))
    parts = (_section(table) for table in tables(figures))
    return f"## What was measured\n\n`cxr-triage evaluate --data FOLDER` repeats it.\n\n{done}\n\n{chr(10).join(parts)}"


def _section(table: Table) -> str:
    note = f"\n{table.note}\n" if table.note else ""
    return f"### {table.title}\n\n{markdown(table.head, table.rows)}\n{note}"


if __name__ == "__main__":
    sys.stdout.write(model_card(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
