"""Stages have their bytes in a column.

Revision: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("stage_results") as table:
        table.add_column(sa.Column("bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    connection = op.get_bind()
    stages = sa.table(
        "stage_results", sa.column("job_id"), sa.column("stage"), sa.column("files", sa.JSON()), sa.column("bytes")
    )
    for job_id, stage, files in connection.execute(sa.select(stages.c.job_id, stages.c.stage, stages.c.files)).all():
        total = sum(int(file.get("bytes", 0)) for file in files or [] if isinstance(file, dict))
        if total:
            this = sa.and_(stages.c.job_id == job_id, stages.c.stage == stage)
            connection.execute(sa.update(stages).where(this).values(bytes=total))


def downgrade() -> None:
    with op.batch_alter_table("stage_results") as table:
        table.drop_column("bytes")
