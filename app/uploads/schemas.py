"""Bodies of requests about uploads, and of their responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from app.jobs.schemas import JobErrorView
from app.uploads.models import Upload, UploadFile, UploadStatus
from qpruner_core.strict import StrictModel

MOST_FILES = 512
_MOST_BYTES = 2**44
FileName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class FileRequest(StrictModel):
    """A file to send."""

    name: FileName = Field(description="Name of the file.", examples=["model.safetensors"])
    bytes: int = Field(ge=1, le=_MOST_BYTES, description="Size in bytes.", examples=[59998464])
    sha256: Sha256 = Field(description="SHA-256 of the content, in lower-case hex.", examples=["0" * 64])


class ModelRequest(StrictModel):
    """A model to send: config.json, tokenizer and safetensors, or one GGUF model."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$")] = Field(
        default="model",
        description="Name of the model, which its compressed files have.",
        examples=["smollm2-135m-ours"],
    )
    files: list[FileRequest] = Field(
        min_length=1, max_length=MOST_FILES, description="All files of the model; their kinds follow from the names."
    )


class DatasetRequest(FileRequest):
    """A dataset to send."""

    name: FileName = Field(description="Name of the file, whose suffix has its form.", examples=["task.jsonl"])


class PartView(BaseModel):
    """A part that is missing. PUT exactly these bytes of the file to `url`, without an API key."""

    file: str = Field(description="Name of the file.", examples=["model.safetensors"])
    number: int = Field(description="Number of the part, from 1.")
    offset: int = Field(description="Offset of the part in the file.")
    bytes: int = Field(description="Size of the part in bytes.")
    url: str = Field(description="Signed URL for the PUT; relative if the service does not know its own address.")


class PartsView(BaseModel):
    """State of an upload: received and missing parts."""

    part_bytes: int = Field(description="Bytes of each part but the last of a file.")
    uploaded_bytes: int = Field(description="Bytes of the received parts.")
    missing_parts: int = Field(description="Number of missing parts.")
    parts: list[PartView] = Field(description="The first of the missing parts, each with a signed URL.")
    urls_expire_at: datetime = Field(description="Expiry of the signed URLs; request the parts again then.")


class FileView(BaseModel):
    """A file of a model."""

    name: str = Field(description="Name of the file.")
    bytes: int = Field(description="Size in bytes.")
    sha256: str = Field(description="SHA-256 of the content, in hex.")

    @classmethod
    def of(cls, file: UploadFile) -> FileView:
        """The view of a row."""
        return cls(name=file.name, bytes=file.bytes, sha256=file.sha256)


class ModelSummary(BaseModel):
    """An uploaded model. Use its `id` as the `model` of a job once it is `ready`."""

    id: str = Field(description="Id of the model.", examples=["md_01k9t4ae5xfz3v2s6q0m8y1d7c"])
    name: str = Field(description="Name of the model.", examples=["smollm2-135m-ours"])
    status: UploadStatus = Field(description="State of the model.", examples=["ready"])
    bytes: int = Field(description="Bytes of all its files.")
    model_type: str | None = Field(description="Architecture, such as `llama`; null until it is ready.")
    created_at: datetime = Field(description="Start of its upload.")
    used_at: datetime = Field(description="Last use by a job.")
    expires_at: datetime | None = Field(description="Deletion time unless it becomes ready; null once it is.")
    error: JobErrorView | None = Field(description="Error of a failed upload; null otherwise.")

    @classmethod
    def of(cls, upload: Upload) -> ModelSummary:
        """The view of a row."""
        return cls(**_summary(upload))


class ModelView(ModelSummary):
    """An uploaded model with its files."""

    files: list[FileView] = Field(description="The files.")
    weight_bytes: int | None = Field(description="Bytes of the weights as stored; null until it is ready.")
    upload: PartsView | None = Field(default=None, description="The parts to send; only in the response to POST.")

    @classmethod
    def with_files(cls, upload: Upload, files: list[UploadFile], parts: PartsView | None = None) -> ModelView:
        """The view of a row and of those of its files."""
        facts = upload.facts or {}
        return cls(
            **_summary(upload),
            files=[FileView.of(file) for file in files],
            weight_bytes=facts.get("weight_bytes"),
            upload=parts,
        )


class ModelPage(BaseModel):
    """A page of models, newest first."""

    models: list[ModelSummary] = Field(description="The models.")
    next_cursor: str | None = Field(description="Send it as `cursor` for older models; null on the last page.")


def _summary(upload: Upload) -> dict[str, object]:
    names = ("id", "name", "status", "bytes", "created_at", "used_at", "expires_at")
    return {name: getattr(upload, name) for name in names} | {
        "model_type": (upload.facts or {}).get("config", {}).get("model_type"),
        "error": None if upload.error is None else JobErrorView.model_validate(upload.error),
    }
