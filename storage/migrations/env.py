"""Run by Alembic: migrates on the connection, and in the transaction, that `migrate` has opened."""

from alembic import context

from cxr_triage.storage.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter a column: Alembic then makes the table anew.
    render_as_batch=True,
)
context.run_migrations()
