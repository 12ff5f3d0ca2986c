"""The tables as first shipped."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None
#: SQLite numbers rows by itself only for INTEGER.
ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "audit",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=True),
        sa.Column("sop_instance_uid", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_sop_instance_uid"), "audit", ["sop_instance_uid"], unique=False)
    op.create_index(op.f("ix_audit_study_instance_uid"), "audit", ["study_instance_uid"], unique=False)
    op.create_table(
        "study",
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("ordered", sa.SmallInteger(), nullable=False),
        sa.Column("arrived_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("effective", sa.SmallInteger(), nullable=False),
        sa.Column("utility", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("overdue_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("plain_effective", sa.SmallInteger(), nullable=False),
        sa.Column("plain_utility", sa.Double(), nullable=False),
        sa.Column("plain_reason", sa.Text(), nullable=False),
        sa.Column("plain_overdue_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("effective <= ordered", name=op.f("ck_study_never_lowered")),
        sa.CheckConstraint("utility >= 0 AND utility <= 1", name=op.f("ck_study_utility_range")),
        sa.PrimaryKeyConstraint("study_instance_uid", name=op.f("pk_study")),
    )
    op.create_index(op.f("ix_study_finished_at_arrived_at"), "study", ["finished_at", "arrived_at"], unique=False)
    op.create_table(
        "revision",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("policy_digest", sa.Text(), nullable=False),
        sa.Column("priority_reason", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("predecessor_id", ID, nullable=True),
        sa.ForeignKeyConstraint(["predecessor_id"], ["revision.id"], name=op.f("fk_revision_predecessor_id_revision")),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["study.study_instance_uid"], name=op.f("fk_revision_study_instance_uid_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
        sa.UniqueConstraint("digest", name=op.f("uq_revision_digest")),
        sa.UniqueConstraint("study_instance_uid", "number", name=op.f("uq_revision_study_instance_uid_number")),
    )
    op.create_index(op.f("ix_revision_state"), "revision", ["state"], unique=False)
    op.create_table(
        "instance",
        sa.Column("id", ID, nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.Text(), nullable=False),
        sa.Column("calling_ae_title", sa.Text(), nullable=False),
        sa.Column("called_ae_title", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("owns_file", sa.Boolean(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("other_bytes", sa.Boolean(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=True),
        sa.Column("ordered", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("covered_by", ID, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["covered_by"], ["revision.id"], name=op.f("fk_instance_covered_by_revision")),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["study.study_instance_uid"], name=op.f("fk_instance_study_instance_uid_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("sop_instance_uid", "sha256", name=op.f("uq_instance_sop_instance_uid_sha256")),
    )
    op.create_index(op.f("ix_instance_covered_by_state"), "instance", ["covered_by", "state"], unique=False)
    op.create_index(op.f("ix_instance_owner"), "instance", ["owner"], unique=False)
    op.create_index(op.f("ix_instance_owns_file_received_at"), "instance", ["owns_file", "received_at"], unique=False)
    op.create_index(op.f("ix_instance_path"), "instance", ["path"], unique=False)
    op.create_index(
        op.f("ix_instance_state_ordered_received_at"), "instance", ["state", "ordered", "received_at"], unique=False
    )
    op.create_index(
        op.f("ix_instance_study_instance_uid_state"), "instance", ["study_instance_uid", "state"], unique=False
    )
    op.create_table(
        "instance_header",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("view", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("issuer_of_patient_id", sa.Text(), nullable=False),
        sa.Column("patient_birth_date", sa.Text(), nullable=False),
        sa.Column("patient_sex", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("study_time", sa.Text(), nullable=False),
        sa.Column("study_description", sa.Text(), nullable=False),
        sa.Column("referring_physician_name", sa.Text(), nullable=False),
        sa.Column("specific_character_set", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_instance_header_instance_id_instance")),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_instance_header")),
    )
    op.create_table(
        "prediction",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("bundle_name", sa.Text(), nullable=False),
        sa.Column("bundle_version", sa.Text(), nullable=False),
        sa.Column("bundle_sha256", sa.Text(), nullable=False),
        sa.Column("abnormal_probability", sa.Double(), nullable=False),
        sa.Column("locations", sa.JSON(), nullable=False),
        sa.Column("masks", sa.LargeBinary(), nullable=False),
        sa.Column("masks_shape", sa.JSON(), nullable=False),
        sa.Column("saliency", sa.LargeBinary(), nullable=False),
        sa.Column("saliency_shape", sa.JSON(), nullable=False),
        sa.Column("saliency_frame", sa.JSON(), nullable=False),
        sa.Column("feature_distance", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "abnormal_probability >= 0 AND abnormal_probability <= 1", name=op.f("ck_prediction_probability_range")
        ),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_prediction_instance_id_instance")),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_prediction")),
    )
    op.create_table(
        "result_object",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.Text(), nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("source_sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("source_instance_id", ID, nullable=True),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("owns_file", sa.Boolean(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_instance_id"], ["instance.id"], name=op.f("fk_result_object_source_instance_id_instance")
        ),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"], ["study.study_instance_uid"], name=op.f("fk_result_object_study_instance_uid_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result_object")),
        sa.UniqueConstraint("sop_instance_uid", name=op.f("uq_result_object_sop_instance_uid")),
    )
    op.create_index(
        op.f("ix_result_object_owns_file_created_at"), "result_object", ["owns_file", "created_at"], unique=False
    )
    op.create_index(op.f("ix_result_object_path"), "result_object", ["path"], unique=False)
    op.create_index(
        op.f("ix_result_object_study_instance_uid_kind"), "result_object", ["study_instance_uid", "kind"], unique=False
    )
    op.create_table(
        "revision_image",
        sa.Column("revision_id", ID, nullable=False),
        sa.Column("instance_id", ID, nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_revision_image_instance_id_instance")),
        sa.ForeignKeyConstraint(["revision_id"], ["revision.id"], name=op.f("fk_revision_image_revision_id_revision")),
        sa.PrimaryKeyConstraint("revision_id", "instance_id", name=op.f("pk_revision_image")),
    )
    op.create_table(
        "delivery",
        sa.Column("id", ID, nullable=False),
        sa.Column("object_id", ID, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["object_id"], ["result_object.id"], name=op.f("fk_delivery_object_id_result_object")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery")),
        sa.UniqueConstraint("object_id", "destination", name=op.f("uq_delivery_object_id_destination")),
    )
    op.create_index(op.f("ix_delivery_owner"), "delivery", ["owner"], unique=False)
    op.create_index(
        op.f("ix_delivery_state_destination_next_attempt_at"),
        "delivery",
        ["state", "destination", "next_attempt_at"],
        unique=False,
    )
    op.create_table(
        "finding",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.CheckConstraint("probability >= 0 AND probability <= 1", name=op.f("ck_finding_probability_range")),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["prediction.instance_id"], name=op.f("fk_finding_instance_id_prediction")
        ),
        sa.PrimaryKeyConstraint("instance_id", "position", name=op.f("pk_finding")),
    )
    op.create_table(
        "measurement",
        sa.Column("instance_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("qualifier", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["prediction.instance_id"], name=op.f("fk_measurement_instance_id_prediction")
        ),
        sa.PrimaryKeyConstraint("instance_id", "position", name=op.f("pk_measurement")),
    )
    op.create_table(
        "revision_object",
        sa.Column("revision_id", ID, nullable=False),
        sa.Column("object_id", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["object_id"], ["result_object.id"], name=op.f("fk_revision_object_object_id_result_object")
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["revision.id"], name=op.f("fk_revision_object_revision_id_revision")),
        sa.PrimaryKeyConstraint("revision_id", "object_id", name=op.f("pk_revision_object")),
    )
    op.create_index(op.f("ix_revision_object_object_id"), "revision_object", ["object_id"], unique=False)
