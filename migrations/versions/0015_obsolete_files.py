"""Files in the store that are to be deleted, as no row names them any more.

Revision: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "obsolete_files",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("prefix", sa.String(length=1024), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_obsolete_files"),
    )
    op.create_index("ix_obsolete_files_due_at", "obsolete_files", ["due_at"])


def downgrade() -> None:
    op.drop_index("ix_obsolete_files_due_at", table_name="obsolete_files")
    op.drop_table("obsolete_files")
