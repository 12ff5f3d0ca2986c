"""What the gate would have refused: of adults a loss, of children its duty."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cxr_triage.training.evaluation.intervals import interval_of_share
from cxr_triage.training.evaluation.scored import UNKNOWN, Scored

ADULTS: Final = "adults"
MINORS: Final = "minors"


def gate(rows: Sequence[Scored]) -> dict[str, Any]:
    """Refusals by reason, for adults, minors and patients of unknown age; all images are frontal chest radiographs."""
    groups = (ADULTS, MINORS, UNKNOWN)
    return {group: _group([row for row in rows if _group_of(row) == group]) for group in groups}


def _group_of(row: Scored) -> str:
    return row.age_band if row.age_band in {MINORS, UNKNOWN} else ADULTS


def _group(rows: Sequence[Scored]) -> dict[str, Any]:
    refused = np.array([row.refusal is not None for row in rows], dtype=float)
    return {
        "images": len(rows),
        "refused": dict(Counter(row.refusal.reason for row in rows if row.refusal)),
        # Of adults, the false rejection rate.
        "rate": float(refused.mean()) if rows else None,
        "rate_interval": interval_of_share(refused, [row.sample.patient for row in rows]),
    }
