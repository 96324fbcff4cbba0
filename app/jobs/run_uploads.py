"""Uploads that a run names: whether it can use them, and holding them while its job is written."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.orm import Session

from app.database import utc_now
from app.jobs import repository
from app.jobs.known_uploads import KnownUploads, UploadedDataset
from app.jobs.warm_up import load_core
from app.problems import Problem
from app.uploads import service as uploads
from app.uploads.models import Upload
from qpruner_core.config import CompressionConfig
from qpruner_core.dataset_forms import is_smaller_than_its_text
from qpruner_core.errors import DatasetNotFoundError, ModelNotFoundError, UserError
from qpruner_core.expected_inputs import refuse_another_dataset
from qpruner_core.source_policy import is_uploaded_model


def is_upload(dataset: str) -> bool:
    """Whether ``dataset`` has the form of an upload's id."""
    return dataset.startswith("ds_") and "/" not in dataset


def dataset_fault(
    session: Session, tenant: str, config: CompressionConfig, known: KnownUploads | None = None
) -> tuple[bool, UserError | None]:
    """Whether the dataset of ``config`` has to be inspected, and why it cannot be used, as far as its row tells.

    The content of an upload was checked on arrival. The row of a ``known`` one is read only if it cannot be used.
    """
    if not is_upload(config.dataset):
        return bool(config.dataset), None
    if known is not None and (upload := known.get(tenant, config.dataset)):
        with suppress(UserError):
            _refuse_upload(config, upload)
            return False, None
    try:
        upload = _require_upload(session, tenant, config.dataset)
        _refuse_upload(config, upload)
    except UserError as fault:
        return False, fault
    if known is not None:
        known.keep(tenant, config.dataset, upload)
    return False, None


def hold_uploads(session: Session, tenant: str, model: str, dataset: str) -> repository.BeforeSubmit:
    """From here on, deletion of the uploads among these waits until the job has recorded their use. Raises if one is
    gone."""
    if is_uploaded_model(model):
        require_model(session, tenant, model, hold=True).used_at = utc_now()
    found = repository.before_submit(session, tenant, dataset)
    if is_upload(dataset) and found.dataset_id is None:
        raise _no_upload(session, tenant, dataset)
    return found


def require_model(session: Session, tenant: str, model_id: str, *, hold: bool = False) -> Upload:
    """The tenant's model, once it is ready; with ``hold`` it cannot be deleted in the transaction."""
    upload = uploads.find(session, tenant, model_id, uploads.MODEL, hold=hold)
    if upload is None:
        raise ModelNotFoundError(
            f"There is no model {model_id!r}.", field="model", remedy="Upload one with POST /models."
        )
    if upload.status != "ready":
        raise uploads.not_ready(upload, "model")
    return upload


def _refuse_upload(config: CompressionConfig, upload: UploadedDataset) -> None:
    """Raise if a run of ``config`` cannot use ``upload``."""
    refuse_another_dataset(config, upload.sha256)
    load_core()
    from qpruner_core.data import refuse_too_few_bytes

    if not is_smaller_than_its_text(upload.filename):
        refuse_too_few_bytes(upload.bytes, config.sequence_length)


def _require_upload(session: Session, tenant: str, dataset_id: str) -> UploadedDataset:
    upload = repository.find_upload(session, tenant, dataset_id)
    if upload is None:
        raise _no_upload(session, tenant, dataset_id)
    return upload


def _no_upload(session: Session, tenant: str, dataset_id: str) -> UserError | Problem:
    if unfinished := uploads.find(session, tenant, dataset_id, uploads.DATASET):
        return uploads.not_ready(unfinished, "dataset")
    return DatasetNotFoundError(
        f"There is no dataset {dataset_id!r}.", field="dataset", remedy="Upload one with POST /datasets."
    )
