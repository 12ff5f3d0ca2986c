"""What the history tells, on both databases."""

from datetime import timedelta

from builders import MORNING, received_instance
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger.history import History, ScoredImage
from steps import Steps


def test_history_tells_when_each_image_was_scored(database: Database) -> None:
    """In the order of the commits; an image without a prediction is not in it."""
    steps = Steps(database)
    first = steps.score("1.2.1")
    steps.clock.move(timedelta(minutes=3))
    second = steps.score("1.2.2", image=received_instance(received_at=steps.clock()))
    steps.index("1.2.3")
    assert History(database).scored_images() == [
        ScoredImage(sop_instance_uid=first.sop_instance_uid, study_instance_uid="1.2.1", scored_at=MORNING),
        ScoredImage(
            sop_instance_uid=second.sop_instance_uid,
            study_instance_uid="1.2.2",
            scored_at=MORNING + timedelta(minutes=3),
        ),
    ]
