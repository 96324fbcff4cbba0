"""Stores, finds, lists and deletes the datasets of a tenant."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.audit import entries as audit
from app.database import utc_now
from app.datasets.models import Dataset
from app.ids import is_id, new_id
from app.jobs import repository
from app.jobs.models import TERMINAL, Job
from app.keys.principal import Principal
from app.problems import Problem
from app.settings import Settings
from app.storage.obsolete import record_obsolete
from app.storage.usage import require_storage
from app.store import ArtifactStore, StoreUnavailableError

if TYPE_CHECKING:
    from qpruner_core.data import DatasetDescription


def create_dataset(
    session: Session, store: ArtifactStore, settings: Settings, principal: Principal, path: Path,
    description: DatasetDescription,
) -> Dataset:  # fmt: skip
    """Put the checked file into the store, and commit its row; after a failure neither exists.

    Raises:
        StoreUnavailableError, DiskFullError: the store did not accept it.
        Problem: 403 ``storage_full``: the tenant's other uploads have used up the space meanwhile.
    """
    dataset_id = new_id("ds")
    row = Dataset(
        id=dataset_id,
        tenant=principal.tenant,
        filename=path.name,
        key=f"{_prefix(dataset_id)}{path.name}",
        bytes=description.bytes,
        sha256=description.sha256,
        kind=description.kind,
        records=description.records,
        created_at=utc_now(),
    )
    try:
        store.put_file(row.key, path)
        repository.lock_queue(session, principal.tenant)  # as everything that counts before it adds
        require_storage(session, settings, principal.tenant, row.bytes)
        session.add(row)
        audit.record(session, principal, "dataset.upload", row.id)
        session.commit()
    except BaseException:
        session.rollback()
        with contextlib.suppress(StoreUnavailableError):
            store.delete_prefix(_prefix(dataset_id))
        raise
    return row


def require_dataset(session: Session, tenant: str, dataset_id: str) -> Dataset:
    """The tenant's dataset. Raises a 404 problem ``dataset_not_found``, also for another tenant's."""
    row = find_dataset(session, tenant, dataset_id)
    if row is None:
        raise _not_found(dataset_id)
    return row


def find_dataset(session: Session, tenant: str, dataset_id: str) -> Dataset | None:
    """The tenant's dataset that is ready; ``None`` if there is none."""
    return session.scalar(_owned(tenant, dataset_id)) if is_id(dataset_id, "ds") else None


def list_datasets(session: Session, tenant: str, *, before: str | None, limit: int) -> Sequence[Dataset]:
    """The tenant's datasets, newest first, starting after the id ``before``."""
    query = select(Dataset).where(Dataset.tenant == tenant).order_by(Dataset.id.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(Dataset.id < before)).all()


def delete_dataset(session: Session, tenant: str, dataset_id: str) -> int:
    """Delete the row and, after the commit, the file; returns its bytes.

    ``session``: one of :func:`app.storage.obsolete.deleting`.

    Raises:
        Problem: 404 ``dataset_not_found``; 409 ``dataset_in_use`` while an unfinished job of the tenant names it.
    """
    if not is_id(dataset_id, "ds"):
        raise _not_found(dataset_id)
    row = session.scalar(_owned(tenant, dataset_id).with_for_update())  # a job that is being queued holds it, too
    if row is None:
        raise _not_found(dataset_id)
    users = select(Job.id).where(Job.tenant == tenant, Job.dataset == dataset_id, Job.status.not_in(TERMINAL))
    job_id = session.scalar(users.limit(1))
    if job_id is not None:
        raise Problem(
            409,
            "dataset_in_use",
            f"The unfinished job {job_id} uses it.",
            remedy=f"Wait for the job, or cancel it: POST /jobs/{job_id}/cancel.",
            extra={"job_id": job_id},
        )
    session.delete(row)
    record_obsolete(session, _prefix(dataset_id))
    return row.bytes


def _owned(tenant: str, dataset_id: str) -> Select[Dataset]:
    return select(Dataset).where(Dataset.id == dataset_id, Dataset.tenant == tenant)


def _not_found(dataset_id: str) -> Problem:
    return Problem(404, "dataset_not_found", f"There is no dataset {dataset_id!r}.", remedy="See GET /datasets.")


def _prefix(dataset_id: str) -> str:
    return f"datasets/{dataset_id}/"
