"""Stages are found by their key, and name the job that they were taken from; trials say if they were stopped early.

Revision: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stage_results", sa.Column("key", sa.String(length=64), nullable=True))
    op.add_column("stage_results", sa.Column("reused_from", sa.String(length=40), nullable=True))
    op.add_column("job_trials", sa.Column("screening_loss", sa.Double(), nullable=True))
    op.add_column("job_trials", sa.Column("stopped_early", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index("ix_stage_results_key", "stage_results", ["key"])


def downgrade() -> None:
    op.drop_index("ix_stage_results_key", "stage_results")
    with op.batch_alter_table("job_trials") as table:
        table.drop_column("stopped_early")
        table.drop_column("screening_loss")
    with op.batch_alter_table("stage_results") as table:
        table.drop_column("reused_from")
        table.drop_column("key")
