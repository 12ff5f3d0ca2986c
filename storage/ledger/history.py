"""What has happened, for whoever measures or explains it."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from cxr_triage.storage.database import Database
from cxr_triage.storage.schema import InstanceRow, PredictionRow


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredImage:
    """An image with a committed prediction."""

    sop_instance_uid: str
    study_instance_uid: str
    #: When the prediction was committed, and the priority of its study with it, UTC.
    scored_at: datetime


class History:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def scored_images(self) -> list[ScoredImage]:
        """Every prediction, in the order of their commits."""
        query = (
            select(InstanceRow.sop_instance_uid, InstanceRow.study_instance_uid, PredictionRow.scored_at)
            .join(PredictionRow, PredictionRow.instance_id == InstanceRow.id)
            .order_by(PredictionRow.scored_at, InstanceRow.id)
        )
        with self._database.read() as session:
            rows = session.execute(query).all()
        return [
            ScoredImage(sop_instance_uid=image, study_instance_uid=study, scored_at=scored_at)
            for image, study, scored_at in rows
            if study is not None
        ]
