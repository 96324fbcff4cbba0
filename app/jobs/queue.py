"""The order in which workers take jobs: in turns between tenants, by priority within one, and a lost job first.

Turns follow start-time fair queueing (Goyal, Vin and Cheng, 1996), with a job as the unit of work. The start of a
tenant's next job is the finish of its previous job, or the clock if that is later; its finish is 1/weight more. The job
with the smallest start is taken, and the clock is the start of the job taken last: an idle tenant accumulates nothing,
and a tenant of weight 2 has two turns for each of a tenant of weight 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from app.jobs.models import Job, TenantTurn
from app.settings import Settings

_LOCK = 0x7175_6575_65  # "queue": of PostgreSQL's advisory locks
IN_ORDER = (Job.was_lost.desc(), Job.priority.desc(), Job.queued_at, Job.id)
"""The order of one tenant's jobs."""
_LOST_IN_ORDER = (Job.queued_at, Job.id)
"""The order of lost jobs, of all tenants together."""


@dataclass(frozen=True)
class QueuePolicy:
    """The operator's policy: weights of tenants (1 for others), most running jobs of a tenant and of a key."""

    weights: Mapping[str, float]
    most_of_tenant: int | None
    most_of_key: int | None

    @classmethod
    def of(cls, settings: Settings) -> QueuePolicy:
        """The policy of ``settings``."""
        return cls(settings.tenant_weights, settings.max_running_jobs, settings.max_running_jobs_per_key)

    def weight(self, tenant: str) -> float:
        """Turns of ``tenant`` for each of a tenant of weight 1."""
        return self.weights.get(tenant, 1.0)


@dataclass(frozen=True)
class WaitingTenant:
    """A tenant with queued jobs: their number, the number of lost ones, and the start of its next one."""

    tenant: str
    jobs: int
    lost: int
    start: float


def waiting_tenants(session: Session) -> list[WaitingTenant]:
    """Tenants with queued jobs, in the order of their turns."""
    turns = {turn.tenant: turn for turn in session.scalars(select(TenantTurn))}
    clock = max((turn.start for turn in turns.values()), default=0.0)
    lost = func.sum(case((Job.was_lost, 1), else_=0))
    query = select(Job.tenant, func.count(), lost).where(Job.status == "queued")
    found = [
        WaitingTenant(tenant, jobs, int(lost), max(clock, turns[tenant].finish if tenant in turns else 0.0))
        for tenant, jobs, lost in session.execute(query.group_by(Job.tenant))
    ]
    return sorted(found, key=lambda one: _turn(one.start, one.tenant))


def _turn(start: float, tenant: str) -> tuple[float, str]:
    """Sort key of turns, rounded so that sums of thirds equal the whole."""
    return round(start, 6), tenant


def next_job(session: Session, policy: QueuePolicy) -> str | None:
    """The id of the next job that the limits allow; ``None`` if there is none.

    Until the transaction ends, no other caller gets one.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    waiting = waiting_tenants(session)
    running = _running(session)
    by_tenant = Counter({tenant: sum(keys.values()) for tenant, keys in running.items()})
    open_to_more = [one for one in waiting if not _is_full(by_tenant[one.tenant], policy.most_of_tenant)]
    counts = [item for keys in running.values() for item in keys.items()]
    full = [key for key, count in counts if key is not None and _is_full(count, policy.most_of_key)]
    lost = session.scalar(_lost([one.tenant for one in open_to_more if one.lost], full))
    if lost is not None:  # it had its turn
        return lost
    for one in open_to_more:
        job_id = session.scalar(_first(one.tenant, full))
        if job_id is not None:
            _count_turn(session, one, policy)
            return job_id
    return None


def jobs_before(session: Session, job: Job, policy: QueuePolicy) -> int:
    """Number of queued jobs that will be taken before the queued ``job`` as things stand; limits are ignored."""
    older = or_(Job.queued_at < job.queued_at, and_(Job.queued_at == job.queued_at, Job.id < job.id))
    if job.was_lost:
        return _count(session, Job.was_lost.is_(True), older)
    waiting = waiting_tenants(session)
    own = next((one for one in waiting if one.tenant == job.tenant), None)
    if own is None:
        return 0
    sooner = or_(Job.priority > job.priority, and_(Job.priority == job.priority, older))
    turns = _count(session, Job.tenant == job.tenant, ~Job.was_lost, sooner)
    lost = sum(one.lost for one in waiting)
    start = own.start + turns / policy.weight(own.tenant)
    return turns + lost + sum(_turns_before(one, start, own, policy) for one in waiting if one.tenant != job.tenant)


def _count(session: Session, *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).where(Job.status == "queued", *conditions)) or 0


def _turns_before(other: WaitingTenant, start: float, own: WaitingTenant, policy: QueuePolicy) -> int:
    """Number of jobs of another tenant that were not lost and have their turn before one that starts at ``start``."""
    weight, mine = policy.weight(other.tenant), _turn(start, own.tenant)
    count, most = max(0, int((start - other.start) * weight) - 1), other.jobs - other.lost
    while count < most and _turn(other.start + count / weight, other.tenant) < mine:
        count += 1
    return min(count, most)


def _is_full(running: int, most: int | None) -> bool:
    return most is not None and running >= most


def _running(session: Session) -> dict[str, Counter[str | None]]:
    query = select(Job.tenant, Job.key_id, func.count()).where(Job.status == "running")
    running: dict[str, Counter[str | None]] = {}
    for tenant, key_id, count in session.execute(query.group_by(Job.tenant, Job.key_id)):
        running.setdefault(tenant, Counter())[key_id] = count
    return running


def _first(tenant: str, full_keys: Sequence[str]) -> Select[str]:
    query = select(Job.id).where(Job.status == "queued", Job.tenant == tenant)
    return _outside(query, full_keys).order_by(*IN_ORDER).limit(1)


def _lost(tenants: Sequence[str], full_keys: Sequence[str]) -> Select[str]:
    query = select(Job.id).where(Job.status == "queued", Job.was_lost, Job.tenant.in_(tenants))
    return _outside(query, full_keys).order_by(*_LOST_IN_ORDER).limit(1)


def _outside(query: Select[str], full_keys: Sequence[str]) -> Select[str]:
    return query.where(or_(Job.key_id.is_(None), Job.key_id.not_in(full_keys))) if full_keys else query


def _count_turn(session: Session, one: WaitingTenant, policy: QueuePolicy) -> None:
    finish = one.start + 1 / policy.weight(one.tenant)
    session.merge(TenantTurn(tenant=one.tenant, start=one.start, finish=finish))
    session.flush()
