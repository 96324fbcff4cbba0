"""Precisions have names where they had bits: of the trials, and of the results of jobs.

Revision: 0004
Revises: 0003
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAMES = {4: "nf4", 8: "int8", 16: "bf16"}
_BITS = {name: bits for bits, name in _NAMES.items()}


def upgrade() -> None:
    with op.batch_alter_table("job_trials") as table:
        table.alter_column("bits", new_column_name="precisions", existing_type=sa.JSON(), existing_nullable=False)
    _convert("bits", "precisions", lambda one: _NAMES.get(one, one))


def downgrade() -> None:
    """Jobs whose precisions have no number of bits keep the names."""
    with op.batch_alter_table("job_trials") as table:
        table.alter_column("precisions", new_column_name="bits", existing_type=sa.JSON(), existing_nullable=False)
    _convert("precisions", "bits", lambda one: _BITS.get(one, one))


def _convert(old: str, new: str, of: Callable[[Any], Any]) -> None:
    connection = op.get_bind()
    trials = sa.table("job_trials", sa.column("job_id"), sa.column("index"), sa.column(new, sa.JSON()))
    column = trials.c[new]
    for job_id, index, values in connection.execute(sa.select(trials.c.job_id, trials.c.index, column)).all():
        this = sa.and_(trials.c.job_id == job_id, trials.c.index == index)
        connection.execute(sa.update(trials).where(this).values({column: [of(one) for one in values]}))
    jobs = sa.table("jobs", sa.column("id"), sa.column("result", sa.JSON()))
    for job_id, result in connection.execute(sa.select(jobs.c.id, jobs.c.result)).all():
        if isinstance(result, dict) and old in result:
            changed = {new if key == old else key: value for key, value in result.items()}
            changed[new] = [of(one) for one in changed[new]]
            connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(result=changed))
