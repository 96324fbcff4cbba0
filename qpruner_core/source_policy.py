"""Allowed sources of a run: set by its operator, never by the request."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from qpruner_core.errors import CacheUnusableError
from qpruner_core.sizes import LARGEST_SIZE
from qpruner_core.strict import StrictModel


def default_cache_dir() -> Path:
    """``$QPRUNER_CACHE_DIR``, else ``$XDG_CACHE_HOME/qpruner``, else ``~/.cache/qpruner``.

    Raises:
        CacheUnusableError: none of these can be determined.
    """
    if explicit := os.environ.get("QPRUNER_CACHE_DIR"):
        return Path(explicit)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qpruner"
    except RuntimeError as error:  # a user without a home, as in containers
        raise CacheUnusableError(
            "There is no home directory for the cache of downloaded models.",
            field="cache_dir",
            remedy="Set QPRUNER_CACHE_DIR to a directory that can be read and written.",
        ) from error


class SourcePolicy(StrictModel):
    """Allowed sources of models and datasets.

    The command line allows every local path (``allowed_roots=None``); the service allows only its roots.
    """

    allowed_roots: tuple[Path, ...] | None = Field(
        default=None,
        description="Local paths must lie below one of these after symlinks are resolved; null allows all.",
    )
    hub_endpoint: str | None = Field(default=None, description="Base URL of the model hub; null is the public one.")
    hub_token: str | None = Field(default=None, repr=False, description="Token for gated models.")
    implicit_login: bool = Field(
        default=True,
        description=(
            "Without hub_token, use the login of the user of this process (HF_TOKEN, `hf auth login`). The "
            "service must not: its users would read with the operator's rights."
        ),
    )
    allow_hub: bool = True
    cache_dir: Path = Field(default_factory=default_cache_dir)
    max_dataset_bytes: int = Field(default=256 * 2**20, ge=1, le=LARGEST_SIZE)
    max_model_bytes: int | None = Field(
        default=None, ge=1, le=LARGEST_SIZE, description="Limit of a model download from the hub."
    )
    uploads: dict[str, Path] = Field(
        default_factory=dict,
        description='Local files of uploaded datasets ("ds_…") and folders of uploaded models ("md_…") by id; these '
        "need no allowed root. Checkpoints call such a model by the name of its folder.",
    )


def is_uploaded_model(reference: str) -> bool:
    """Whether ``reference`` is written as the id of a model that was uploaded to the service."""
    return reference.startswith("md_") and "/" not in reference
