"""Refuses a model or dataset that is another one than a recipe was made with."""

from __future__ import annotations

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import UserError


class OtherInputsError(UserError):
    """The model or dataset is not the one that the settings expect: a recipe's files would not come out again."""

    code = "other_inputs"


def refuse_another_dataset(config: CompressionConfig, sha256: str) -> None:
    """Raise :class:`OtherInputsError` unless the dataset's content is what the settings expect, if they do."""
    if config.expected.dataset_sha256 not in (None, sha256):
        raise OtherInputsError(
            f"The content of the dataset {config.dataset!r} is not that of the recipe.",
            field="dataset",
            remedy="Name the file that the recipe was made with, or leave out expected.dataset_sha256.",
        )


def refuse_another_model(config: CompressionConfig, digest: str) -> None:
    """Raise :class:`OtherInputsError` unless the model's files are what the settings expect, if they do."""
    if config.expected.model_digest not in (None, digest):
        raise OtherInputsError(
            f"The files of the model {config.model!r} are not those of the recipe.",
            field="model",
            remedy="Name the revision of the recipe (model.revision), or leave out expected.model_digest.",
        )
