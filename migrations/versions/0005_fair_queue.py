"""Jobs wait in the fair order of their tenants; lists have what they show in columns; known models are kept.

Revision: 0005
Revises: 0004
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_RESULT_BYTES = {"dense_bytes": "dense", "final_bytes": "final"}
_WAITING = ("status", "tenant", "was_lost", "priority", "queued_at")


def upgrade() -> None:
    op.create_table(
        "known_models",
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("identity", name="pk_known_models"),
    )
    op.create_index("ix_known_models_created_at", "known_models", ["created_at"])
    op.create_table(
        "tenant_turns",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("finish", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_tenant_turns"),
    )
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default=sa.text("0")))
        table.add_column(sa.Column("key_id", sa.String(length=40), nullable=True))
        table.add_column(sa.Column("queued_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("was_lost", sa.Boolean(), nullable=False, server_default=sa.false()))
        for name in _RESULT_BYTES:
            table.add_column(sa.Column(name, sa.BigInteger(), nullable=True))
    _fill()
    op.create_index("ix_jobs_waiting", "jobs", list(_WAITING))
    op.create_index("ix_jobs_status_finished", "jobs", ["status", "finished_at"])


def downgrade() -> None:
    op.drop_index("ix_jobs_status_finished", table_name="jobs")
    op.drop_index("ix_jobs_waiting", table_name="jobs")
    with op.batch_alter_table("jobs") as table:
        for name in (*_RESULT_BYTES, "was_lost", "queued_at", "key_id", "priority"):
            table.drop_column(name)
    op.drop_table("tenant_turns")
    op.drop_index("ix_known_models_created_at", table_name="known_models")
    op.drop_table("known_models")


def _fill() -> None:
    connection = op.get_bind()
    jobs = sa.table(
        "jobs", sa.column("id"), sa.column("created_at"), sa.column("queued_at"), sa.column("result", sa.JSON()),
        *(sa.column(name) for name in _RESULT_BYTES),
    )  # fmt: skip
    connection.execute(sa.update(jobs).values(queued_at=jobs.c.created_at))
    ids = connection.execute(sa.select(jobs.c.id).where(jobs.c.result.is_not(None))).scalars().all()
    for job_id in ids:  # one at a time: reports are long
        this = jobs.c.id == job_id
        result = connection.execute(sa.select(jobs.c.result).where(this)).scalar_one()
        if isinstance(result, dict):
            connection.execute(sa.update(jobs).where(this).values(**_bytes_of(result)))


def _bytes_of(result: dict[str, Any]) -> dict[str, int | None]:
    rows = result.get("measurements") or []
    found = {row.get("variant"): row.get("bytes") for row in rows if isinstance(row, dict)}
    return {name: found.get(variant) for name, variant in _RESULT_BYTES.items()}
