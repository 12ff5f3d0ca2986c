"""The model card page says what the bundle's card says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cxr_triage.model.bundle import read_card
from cxr_triage.training.model_card import model_card

PAGE = Path(__file__).parent.parent / "docs" / "model-card.md"


def test_page_is_made_from_the_card() -> None:
    """`python -m cxr_triage.training.model_card > docs/model-card.md` makes it anew."""
    assert PAGE.read_text(encoding="utf-8") == model_card(None)


def test_page_names_every_label_with_its_figures() -> None:
    """A label that is reported is also accounted for."""
    card = read_card(None)
    operating, measured = model_card(None).split("## What was measured")
    for label in card.labels:
        # Its operating point, and its specificities.
        assert operating.count(f"| {label.name} |") == 2
        assert f"| {label.name} | {card.figures['classification']['labels'][label.name]['auc']:.3f} [" in measured


def test_page_shows_intervals_strata_shortcut_check_and_reference() -> None:
    """What tells a reader how far to trust the figures."""
    page = model_card(None)
    for title in (
        "Abnormalities by source, sex, age and view",
        "Source shortcut check",
        "Beside the reference predictions",
        "What the gate would refuse",
    ):
        assert f"### {title}" in page


def test_card_holds_no_list_of_images() -> None:
    """Figures are of many images; an image is named only where it is the worst of them."""

    def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
        children = value.items() if isinstance(value, dict) else ((key, each) for each in value or ())
        for name, child in children:
            yield from leaves(child, name) if isinstance(child, dict | list) else [(name, child)]

    texts = [key for key, value in leaves(read_card(None).figures) if isinstance(value, str)]
    assert len(texts) < 250
    assert set(texts) <= {
        *(
            "name",
            "version",
            "sha256",
            "abnormal_formula",
            "split",
            "date",
            "map",
            "worst_id",
            "sources",
            "macro_labels",
        ),
        *("python", "cxr-triage", "torch", "numpy", "scikit-learn", "scipy", "monai"),
    }
