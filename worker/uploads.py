"""Downloads the uploaded dataset of a job to where its process can read it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.models import Dataset
from app.ids import is_id
from app.jobs.lease import Lease
from app.store import ArtifactStore
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import DatasetNotFoundError


def fetch_uploads(
    sessions: sessionmaker[Session], store: ArtifactStore, lease: Lease, config: CompressionConfig, directory: Path
) -> dict[str, Path]:
    """The local file of each upload that ``config`` names, downloaded into ``directory``.

    Raises:
        DatasetNotFoundError: the tenant has no such upload, or the store has lost it.
    """
    if not is_id(config.dataset, "ds"):
        return {}
    owned = select(Dataset).where(Dataset.id == config.dataset, Dataset.tenant == lease.tenant)
    with sessions() as session:
        dataset = session.scalars(owned).one_or_none()
    if dataset is None:
        raise _gone(config.dataset)
    path = directory / Path(dataset.filename).name
    try:
        store.get_file(dataset.key, path)
    except FileNotFoundError as error:
        raise _gone(config.dataset) from error
    return {config.dataset: path}


def _gone(dataset_id: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"The upload {dataset_id} no longer exists.", field="dataset", remedy="Upload it again, and submit a new job."
    )
