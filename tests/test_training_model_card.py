"""The model card page says what the bundle's card says."""

from pathlib import Path

from cxr_triage.model.bundle import read_card
from cxr_triage.training.model_card import model_card

PAGE = Path(__file__).parent.parent / "docs" / "model-card.md"


def test_page_is_made_from_the_card() -> None:
    """`python -m cxr_triage.training.model_card > docs/model-card.md` makes it anew."""
    assert PAGE.read_text(encoding="utf-8") == model_card(read_card(None))


def test_page_names_every_label_with_its_figures() -> None:
    """A label that is reported is also accounted for."""
    card = read_card(None)
    rows = [line for line in model_card(card).splitlines() if line.startswith("|")]
    for label in card.labels:
        assert sum(row.startswith(f"| {label.name} |") for row in rows) == 2
