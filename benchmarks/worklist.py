"""How long a station waits for its answer from a long reading list, and by what that is shorter than it could be.

    .venv/bin/python benchmarks/worklist.py [--studies 100000]

The list is filled into a database in a temporary folder. The first column of times is what is done; the second what the
same would cost if every entry became a data set before it is matched, and if the list were read for each query.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from cxr_triage.daemon.worklist.board import Board, Boards
from cxr_triage.daemon.worklist.entries import worklist_entries
from cxr_triage.daemon.worklist.finding import Finder
from cxr_triage.daemon.worklist.matching import Query, matches, whole
from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import ReadingList
from cxr_triage.storage.migrate import migrate
from cxr_triage.storage.schema import HeaderRow, InstanceRow, StudyRow

#: Entries that are matched as data sets; the time for all of them is in proportion.
SAMPLE = 1_000
#: Answers of which the time is taken.
ANSWERS = 1_000
KEYS = {
    "PatientID": "P0099990",
    "PatientName": "NAME99*",
    "StudyDate": "20240101-20240131",
    "RequestedProcedureDescription": "*CT*",
    "StudyInstanceUID": "1.2.826.0.1.99990",
}


def main() -> None:
    """Fill a list and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100_000)
    count = parser.parse_args().studies
    with listed(count) as database:
        Console().print(measured(ReadingList(database), count))


@contextmanager
def listed(count: int) -> Iterator[Database]:
    """Make a ledger, for as long as the block runs, with so many studies on its list."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'list.db'}"
        migrate(url)
        with closing(open_database(url)) as database:
            fill(database, count)
            yield database


def fill(database: Database, count: int) -> None:
    """Put studies of one image each on the list."""
    studies, images, headers = zip(*(rows_of(number) for number in range(count)), strict=True)
    with database.transaction() as session:
        for table, rows in ((StudyRow, studies), (InstanceRow, images), (HeaderRow, headers)):
            session.execute(insert(table), rows)


def rows_of(number: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Make the rows of a study that arrived so many seconds after the first."""
    uid, arrived_at = f"1.2.826.0.1.{number}", utc_now() - timedelta(hours=12) + timedelta(seconds=number / 10)
    placed = {
        "utility": 0.0,
        "reason": "Ordered ROUTINE; not prioritised.",
        "overdue_at": arrived_at + timedelta(days=1),
    }
    study = {
        "study_instance_uid": uid,
        "ordered": Level.ROUTINE,
        "arrived_at": arrived_at,
        "effective": Level.ROUTINE,
        "plain_effective": Level.ROUTINE,
        **placed,
        **{f"plain_{name}": value for name, value in placed.items()},
    }
    image = {
        "id": number + 1,
        "sop_instance_uid": f"{uid}.1.1",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "calling_ae_title": "XRAY1",
        "called_ae_title": "CXRTRIAGE",
        "path": f"{number}.dcm",
        "owns_file": True,
        "sha256": f"{number:064x}",
        "size_bytes": 1,
        "received_at": arrived_at,
        "other_bytes": False,
        "study_instance_uid": uid,
        "ordered": Level.ROUTINE,
        "state": InstanceState.SCORED,
        "changed_at": arrived_at,
    }
    header = {
        "instance_id": number + 1,
        "study_instance_uid": uid,
        "series_instance_uid": f"{uid}.1",
        "modality": "DX",
        "view": "PA",
        "patient_name": f"Name{number}^Given",
        "patient_id": f"P{number:07d}",
        "issuer_of_patient_id": "HOSPITAL",
        "patient_birth_date": "19640812",
        "patient_sex": "F",
        "accession_number": f"A{number}",
        "study_id": f"S{number}",
        "study_date": f"{arrived_at:%Y%m%d}",
        "study_time": f"{arrived_at:%H%M%S}",
        "study_description": "Thorax pa",
        "referring_physician_name": "Referrer^R",
        "specific_character_set": "ISO_IR 192",
    }
    return study, image, header


def measured(reading_list: ReadingList, count: int) -> Table:
    """Measure each part of an answer."""
    table = Table("what", "seconds", "otherwise", "ratio", title=f"A list of {count} studies")
    boards = Boards(reading_list, Policy())
    first, board = seconds(boards.now)
    again, _ = seconds(boards.now)
    add(table, "the list, when nothing has changed", again, first)
    for keyword, wanted in KEYS.items():
        add(table, f"match {keyword}={wanted}", *matched(board, keyword, wanted))
    identifier = query(StudyInstanceUID="", PatientName="", AccessionNumber="")
    answers = Finder(lambda: board).worklist(identifier, calling_ae_title="READER")
    taken, _ = seconds(lambda: list(islice(answers, ANSWERS)))
    table.add_row(f"{ANSWERS} answers, made", f"{taken:.3f}", "", "")
    return table


def matched(board: Board, keyword: str, wanted: str) -> tuple[float, float]:
    """Match all entries as they are, and some as data sets; gives the seconds of both for all."""
    identifier, entries = query(**{keyword: wanted}), worklist_entries(board, station_ae_title="READER")
    asked = Query(identifier, entries)
    compiled, _ = seconds(lambda: sum(map(asked.matches, board.places)))
    sample = board.places[:SAMPLE]
    built, _ = seconds(lambda: sum(matches(identifier, whole(entries, place)) for place in sample))
    return compiled, built * len(board.places) / len(sample)


def query(**keys: str) -> Dataset:
    """Make an identifier."""
    identifier = Dataset()
    for keyword, value in keys.items():
        identifier.add(DataElement(keyword, dictionary_VR(keyword), value))
    return identifier


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Do it; gives how long that took, and what came of it."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def add(table: Table, what: str, taken: float, otherwise: float) -> None:
    """Add a row."""
    table.add_row(what, f"{taken:.3f}", f"{otherwise:.3f}", f"{otherwise / taken:.0f}")


if __name__ == "__main__":
    main()
