"""Downloads the uploaded model and dataset of a job to where its process can read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.datasets.models import Dataset
from app.ids import is_id
from app.jobs.lease import Lease
from app.store import ArtifactStore
from app.uploads.models import Upload
from app.uploads.service import files_of
from qpruner_core.config import CompressionConfig
from qpruner_core.errors import DatasetNotFoundError, ModelNotFoundError
from worker.model_files import ModelFiles


def fetch_uploads(
    sessions: sessionmaker[Session], store: ArtifactStore, lease: Lease, config: CompressionConfig, directory: Path
) -> dict[str, Path]:
    """The local file of the uploaded dataset that ``config`` names, fetched into ``directory``, by its id.

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


def fetch_model(
    sessions: sessionmaker[Session], files: ModelFiles, lease: Lease, config: CompressionConfig, directory: Path,
    check_stop: Callable[[], None],
) -> dict[str, Path]:  # fmt: skip
    """The folder of the uploaded model that ``config`` names, below ``directory``, by its id.

    Raises:
        ModelNotFoundError: the tenant has no such model that is ready, or the store has lost it.
        UploadCorruptError: the store has another file than was checked.
    """
    if not is_id(config.model, "md"):
        return {}
    owned = select(Upload).where(Upload.id == config.model, Upload.tenant == lease.tenant, Upload.status == "ready")
    with sessions() as session:
        upload = session.scalars(owned).one_or_none()
        rows = files_of(session, config.model)
    if upload is None:
        raise _model_gone(config.model)
    folder = directory / config.model / upload.name
    try:
        files.place(upload.id, rows, folder, check_stop)
    except FileNotFoundError as error:
        raise _model_gone(config.model) from error
    return {config.model: folder}


def _gone(dataset_id: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"The upload {dataset_id} no longer exists.", field="dataset", remedy="Upload it again, and submit a new job."
    )


def _model_gone(model_id: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"The model {model_id} no longer exists.", field="model", remedy="Upload it again, and submit a new job."
    )
