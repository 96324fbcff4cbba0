"""What Alembic runs for every command: migrate the connection that :mod:`app.migrate` opened and locked."""

from __future__ import annotations

from alembic import context

from app.migrate import METADATA, migration_connection

with migration_connection(context.config) as connection:
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        render_as_batch=True,  # SQLite alters a table by copying it
        transactional_ddl=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()
