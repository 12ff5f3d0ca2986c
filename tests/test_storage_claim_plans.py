"""Claiming an image is a look-up in an index, however long the queue is."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, insert, select, update

from builders import finding
from cxr_triage.storage.database import Database
from cxr_triage.storage.schema import InstanceRow
from steps import OWNER, Steps


def _multiply(database: Database, times: int) -> None:
    """Add scored images like the one that there is, and let the database count them."""
    images = InstanceRow.__table__
    with database.transaction() as session:
        [image] = session.execute(select(images)).mappings().all()
        copies = [{**image, "id": 1000 + copy, "sop_instance_uid": f"2.{copy}"} for copy in range(times)]
        session.execute(insert(InstanceRow), copies)
        session.connection().exec_driver_sql("ANALYZE")


def _plan_of_last_claim(database: Database, act: Callable[[], object]) -> str:
    """Ask the database how it does the last look-up of images that an action makes."""
    asked: list[tuple[str, Any]] = []
    with database.transaction() as session:
        engine = session.connection().engine

    def remember(*told: Any) -> None:
        if told[2].startswith("SELECT") and "ORDER BY instance.ordered" in told[2]:
            asked.append((told[2], told[3]))

    event.listen(engine, "before_cursor_execute", remember)
    act()
    event.remove(engine, "before_cursor_execute", remember)
    statement, parameters = asked[-1]
    with database.transaction() as session:
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())
        return str(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).all())


@pytest.mark.parametrize("again", [False, True])
def test_a_claim_is_a_look_up_in_an_index(steps: Steps, database: Database, again: bool) -> None:
    """Of images that wait for their first result, and of those that other weights are to score."""
    steps.score("1.2", finding())
    _multiply(database, 500)
    if again:
        steps.score("1.1", finding())
        with database.transaction() as session:
            session.execute(
                update(InstanceRow).where(InstanceRow.study_instance_uid == "1.1").values(to_score_again=True)
            )
    else:
        steps.index("1.1")
    plan = _plan_of_last_claim(database, lambda: steps.scoring.claim_to_score(OWNER))
    index = "ix_instance_to_score_again" if again else "ix_instance_state_ordered_received_at"
    assert index in plan
