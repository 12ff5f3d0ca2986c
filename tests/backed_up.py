"""A service's database and folders with real files in them, filled step by step: what backups are made of."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, MetaData, select, text

from builders import finding, received_instance, result_object, store_file
from cxr_triage.storage.backup import Service
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.image_records import InstanceState, ReceivedInstance
from cxr_triage.storage.inbox import Inbox, Outbox
from cxr_triage.storage.migrate import upgrade
from cxr_triage.storage.result_records import ObjectKind, ResultObject
from cxr_triage.storage.schema import Base, InstanceRow, ObjectRow
from steps import PACS, Steps

#: Preamble, prefix, and a file meta information of 4 bytes behind its length (PS3.10 7.1).
META = bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00\x04\x00\x00\x00meta"


class Ward:
    """One service."""

    def __init__(self, folder: Path, url: str) -> None:
        """Everything is below the folder, but for a database of a server."""
        self.service = Service(
            database_url=url, printable_database=url, inbox=folder / "inbox", outbox=folder / "outbox"
        )
        self.database: Database = open_database(url)
        self.steps = Steps(self.database)
        self.inbox = Inbox(self.service.inbox, clock=self.steps.clock)
        self.outbox = Outbox(self.service.outbox, clock=self.steps.clock)

    @classmethod
    @contextmanager
    def filled(cls, folder: Path, url: str) -> Iterator[Self]:
        """Give one with something in every state."""
        ward = cls(folder, url)
        ward.fill()
        yield ward
        ward.close()

    def image(self, content: bytes = b"pixels") -> ReceivedInstance:
        """Describe an image whose file is in the inbox."""
        uid = received_instance().sop_instance_uid
        stored = store_file(self.inbox, content + uid.encode(), sop_instance_uid=uid, meta=META)
        return received_instance(
            sop_instance_uid=uid,
            path=stored.path,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            received_at=self.steps.clock(),
        )

    def receive(self) -> ReceivedInstance:
        """Take one in."""
        return self.steps.receive(self.image())

    def index(self, study: str) -> ReceivedInstance:
        """Take one in and put it into a study."""
        return self.steps.index(study, self.image())

    def score(self, study: str) -> ReceivedInstance:
        """Take one in and score it."""
        return self.steps.score(study, finding(), image=self.image())

    def report(self, study: str) -> list[ResultObject]:
        """Report a study: a SEG per image and an SR."""
        revision = self.steps.reporting.open_revision(study, self.steps.policy.digest())
        made = {seg.source_sop_instance_uid: seg for seg in self.steps.reporting.reported_of_images(study)}
        images = [each.sop_instance_uid for each in self.steps.reporting.predictions(revision)]
        segs = [made.get(uid) or self._object(ObjectKind.SEG, study, source_sop_instance_uid=uid) for uid in images]
        objects = [*segs, self._object(ObjectKind.SR, study)]
        self.steps.reporting.complete_revision(revision, objects, [PACS])
        return objects

    def deliver(self, count: int, owner: str = "deliver-1-host-1") -> None:
        """Deliver so many objects."""
        for delivery in self.steps.dispatch.claim(owner, PACS[0], count):
            self.steps.dispatch.record_stored(delivery)

    def fill(self) -> None:
        """Have something in every state: done, read, waiting, in flight, given up."""
        self.score("1.1")
        self.report("1.1")
        self.deliver(2)
        self.score("1.1")  # a second revision, which supersedes the first
        self.report("1.1")
        self.steps.dispatch.claim("deliver-2-host-2", PACS[0], 1)
        self.score("1.5")
        self.report("1.5")
        for delivery in self.steps.dispatch.claim("deliver-1-host-1", PACS[0], 1):
            self.steps.dispatch.record_dead(delivery, "refused")
        self.score("1.2")
        self.steps.reporting.open_revision("1.2", self.steps.policy.digest())
        self.index("1.3")
        claim = self.steps.claim_to_score()
        self.steps.scoring.record_failure(claim, error_class="killed", explanation="It died.", retry_at=None)
        self.index("1.4")
        self.steps.claim_to_score()
        self.receive()
        self.steps.claim_to_index()
        self.receive()

    def _object(self, kind: ObjectKind, study: str, **changes: Any) -> ResultObject:
        made = result_object(kind, study_instance_uid=study, **changes)
        stored = store_file(
            self.outbox, made.sop_instance_uid.encode(), sop_instance_uid=made.sop_instance_uid, meta=META
        )
        return dataclasses.replace(made, path=stored.path, sha256=stored.sha256)

    def owned(self) -> set[Path]:
        """Every file that a row owns, absolute."""
        with self.database.read() as session:
            images = session.scalars(select(InstanceRow.path).where(InstanceRow.owns_file)).all()
            objects = session.scalars(select(ObjectRow.path).where(ObjectRow.owns_file)).all()
        return {*(self.service.inbox / path for path in images), *(self.service.outbox / path for path in objects)}

    def files(self) -> set[Path]:
        """Every file that is there, finished or not."""
        return {
            path for folder in (self.service.inbox, self.service.outbox) for path in folder.rglob("*") if path.is_file()
        }

    def states(self) -> dict[str, InstanceState]:
        """Every image's state by its UID."""
        with self.database.read() as session:
            return dict(session.execute(select(InstanceRow.sop_instance_uid, InstanceRow.state)).all())

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table."""
        with self.database.read() as session:
            return {
                table.name: [
                    dict(row) for row in session.execute(select(table).order_by(*table.primary_key)).mappings()
                ]
                for table in Base.metadata.sorted_tables
            }

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def without_claims(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Leave out what giving a claim back changes."""
    changes = {"owner", "lease_until", "next_attempt_at", "lost"}
    kept = {
        table: [{name: value for name, value in row.items() if name not in changes} for row in found]
        for table, found in rows.items()
    }
    kept["audit"] = [row for row in kept["audit"] if row["event"] != "released"]
    return kept


def old_ledger(database: Database, url: str, revision: str) -> None:
    """Make the database that an older version would have had of the same work, with what it knew of it."""
    old = open_database(url)
    with old.transaction() as target, database.read() as source:
        upgrade(target, revision)
        _copy_common(source.connection(), target.connection())
    old.close()


def _copy_common(source: Connection, target: Connection) -> None:
    now, before = MetaData(), MetaData()
    now.reflect(source)
    before.reflect(target)
    for table in before.sorted_tables:
        if table.name != "alembic_version":
            columns = [now.tables[table.name].columns[column.name] for column in table.columns]
            query = now.tables[table.name].select().with_only_columns(*columns).order_by(*columns[:1])
            rows = [dict(row) for row in source.execute(query).mappings()]
            if rows:
                target.execute(table.insert(), rows)
    if target.dialect.name == "postgresql":
        numbered_tables = {"instance", "delivery", "revision", "result_object", "audit", "procedure_step"}
        for name in numbered_tables & before.tables.keys():
            numbered = text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))")
            target.execute(numbered)
