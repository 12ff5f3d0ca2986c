"""The tables of images, of what their headers say, and of what the network found on them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from cxr_triage.model.priority import Level
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.schema.base import Base, Id, Leased, Number


class InstanceRow(Leased, Base):
    """One content of one SOP Instance, and the file that holds it."""

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "sha256"),
        Index(None, "state", "ordered", "received_at"),
        Index(None, "study_instance_uid", "state"),
        Index(None, "covered_by", "state"),
        Index(None, "owns_file", "received_at"),
        Index(None, "owner"),
        # SQLite takes a partial index only where the question is put in the index's own words, and it is asked "= 1".
        Index(
            "ix_instance_to_score_again",
            "ordered",
            "received_at",
            "id",
            sqlite_where=text("to_score_again = 1"),
            postgresql_where=text("to_score_again"),
        ),
    )

    id: Mapped[Id]
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    calling_ae_title: Mapped[str]
    called_ae_title: Mapped[str]
    path: Mapped[str] = mapped_column(index=True)
    owns_file: Mapped[bool]
    sha256: Mapped[str]
    size_bytes: Mapped[Number]
    received_at: Mapped[datetime]
    #: Its SOP Instance UID was known with other bytes when it came.
    other_bytes: Mapped[bool]
    study_instance_uid: Mapped[str | None] = mapped_column(ForeignKey("study.study_instance_uid"))
    #: The study's, copied so that one index gives the most urgent image.
    ordered: Mapped[Level]
    state: Mapped[InstanceState]
    #: Attempts of the present step that were given back without an outcome.
    lost: Mapped[int] = mapped_column(default=0)
    #: Of a refusal or an error, also one that will be retried: a stable word, and a sentence for a person.
    reason: Mapped[str | None]
    explanation: Mapped[str | None]
    #: When it reached its present state.
    changed_at: Mapped[datetime]
    #: The first reported revision that is about it.
    covered_by: Mapped[int | None] = mapped_column(ForeignKey("revision.id"))
    #: Its result does not count, whether there is one or not.
    withdrawn: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: How often its result was replaced, or a withdrawal of it undone: what is made of it then has other UIDs.
    edition: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    #: Scored, and to be scored by other weights as soon as nothing else is to be done; until then its result stands.
    to_score_again: Mapped[bool] = mapped_column(default=False, server_default=text("false"))


class HeaderRow(Base):
    """The header of an image: beside orders, the only place of patient data. One column per field of InstanceHeader."""

    __tablename__ = "instance_header"
    __table_args__ = (Index(None, "accession_number"), Index(None, "study_instance_uid"))

    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    study_instance_uid: Mapped[str]
    series_instance_uid: Mapped[str]
    modality: Mapped[str]
    view: Mapped[str]
    patient_name: Mapped[str]
    patient_id: Mapped[str]
    issuer_of_patient_id: Mapped[str]
    patient_birth_date: Mapped[str]
    patient_sex: Mapped[str]
    accession_number: Mapped[str]
    issuer_of_accession_number: Mapped[str] = mapped_column(server_default=text("''"))
    study_id: Mapped[str]
    study_date: Mapped[str]
    study_time: Mapped[str]
    study_description: Mapped[str]
    referring_physician_name: Mapped[str]
    specific_character_set: Mapped[str]


class PredictionRow(Base):
    """What the network said of an image: arrays packed, the rest beside them."""

    __tablename__ = "prediction"
    __table_args__ = (
        CheckConstraint("abnormal_probability >= 0 AND abnormal_probability <= 1", name="probability_range"),
    )

    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    scored_at: Mapped[datetime]
    bundle_name: Mapped[str]
    bundle_version: Mapped[str]
    bundle_sha256: Mapped[str]
    abnormal_probability: Mapped[float]
    locations: Mapped[dict[str, Any]]
    #: One bit per pixel, zlib.
    masks: Mapped[bytes]
    masks_shape: Mapped[list[int]]
    #: One byte per cell, zlib.
    saliency: Mapped[bytes]
    saliency_shape: Mapped[list[int]]
    saliency_frame: Mapped[list[float]]
    feature_distance: Mapped[float]


class FindingRow(Base):
    """One finding of a prediction."""

    __tablename__ = "finding"
    __table_args__ = (CheckConstraint("probability >= 0 AND probability <= 1", name="probability_range"),)

    instance_id: Mapped[int] = mapped_column(ForeignKey("prediction.instance_id"), primary_key=True)
    #: In the bundle's order, which is that of the saliency maps.
    position: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    probability: Mapped[float]
    threshold: Mapped[float]
    #: Where it lies: names in model.findings.SITES and THIRDS; empty = not told.
    site: Mapped[str] = mapped_column(default="", server_default=text("''"))
    third: Mapped[str] = mapped_column(default="", server_default=text("''"))
    #: Its outline's pixels, as many as a mask's: one bit each, zlib.
    region: Mapped[bytes | None]


class MeasurementRow(Base):
    """One measurement of a prediction."""

    __tablename__ = "measurement"

    instance_id: Mapped[int] = mapped_column(ForeignKey("prediction.instance_id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    value: Mapped[float]
    unit: Mapped[str]
    qualifier: Mapped[str]


class RemarkRow(Base):
    """One remark on a prediction."""

    __tablename__ = "remark"

    instance_id: Mapped[int] = mapped_column(ForeignKey("prediction.instance_id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]
    sentence: Mapped[str]
