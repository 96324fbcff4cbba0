"""Jobs have the trace that they belong to, and how long they waited.

Revision: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("traceparent", sa.String(length=55), nullable=True))
        table.add_column(sa.Column("waited", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.drop_column("waited")
        table.drop_column("traceparent")
