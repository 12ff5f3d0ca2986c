"""How long a performer waits for procedure steps out of very many.

    .venv/bin/python benchmarks/procedure_steps.py [--steps 100000]

The steps are filled into a database in a temporary folder, one for each listed study. A query without a state finds
all of them.
"""

import argparse
from itertools import islice

from rich.console import Console
from rich.table import Table
from sqlalchemy import insert
from worklist import ANSWERS, listed, query, seconds

from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import StepLedger
from cxr_triage.storage.schema import ProcedureStepRow
from cxr_triage.storage.step_records import Step, StepState, step_uid


def main() -> None:
    """Fill the steps in and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    count = parser.parse_args().steps
    with listed(count) as database:
        fill_steps(database, count)
        Console().print(measured(database, count))


def fill_steps(database: Database, count: int) -> None:
    """Give each study its own step, as the service would have."""
    now = utc_now()
    studies = (f"1.2.826.0.1.{number}" for number in range(count))
    rows = [
        {
            "sop_instance_uid": step_uid(study, 1),
            "study_instance_uid": study,
            "state": StepState.SCHEDULED,
            "own": True,
            "attributes": {},
            "considered": True,
            "created_at": now,
            "changed_at": now,
        }
        for study in studies
    ]
    with database.transaction() as session:
        session.execute(insert(ProcedureStepRow), rows)


def measured(database: Database, count: int) -> Table:
    """Measure each part of an answer."""
    table = Table("what", "seconds", title=f"{count} procedure steps")
    procedure = ProcedureSteps(database, policy=Policy(), receivers=())
    everything = query(SOPInstanceUID="", PatientName="", ScheduledProcedureStepPriority="")
    named = query(SOPInstanceUID=step_uid(f"1.2.826.0.1.{count - 1}", 1), PatientName="")
    for what, identifier, answers in (
        ("the first answer, the list read for it", everything, 1),
        ("the first answer, when nothing has changed", everything, 1),
        (f"{ANSWERS} answers", everything, ANSWERS),
        ("one step, by its UID", named, 1),
    ):
        taken, _ = seconds(lambda asked=identifier, most=answers: list(islice(procedure.find(asked), most)))
        table.add_row(what, f"{taken:.3f}")
    taken, _ = seconds(lambda: every_step(StepLedger(database)))
    table.add_row("all steps read at once, as if they did not come in pages", f"{taken:.3f}")
    return table


def every_step(ledger: StepLedger) -> list[Step]:
    """Read all steps before the first answer is made."""
    keys = ledger.find()
    return [step for start in range(0, len(keys), ANSWERS) for step in ledger.steps(keys[start : start + ANSWERS])]


if __name__ == "__main__":
    main()
