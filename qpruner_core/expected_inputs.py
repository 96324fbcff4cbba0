"""Rejects a model or dataset that differs from the one of a recipe."""

from __future__ import annotations

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import UserError


class OtherInputsError(UserError):
    """The model or dataset differs from the expected one: the recipe's files could not be reproduced."""

    code = "other_inputs"


def refuse_another_dataset(config: CompressionConfig, sha256: str) -> None:
    """Raise :class:`OtherInputsError` if the dataset differs from the expected one, if any."""
    if config.expected.dataset_sha256 not in (None, sha256):
        raise OtherInputsError(
            f"The content of the dataset {config.dataset!r} differs from that of the recipe.",
            field="dataset",
            remedy="Name the file that the recipe was made with, or remove expected.dataset_sha256.",
        )


def refuse_another_model(config: CompressionConfig, digest: str) -> None:
    """Raise :class:`OtherInputsError` if the model's files differ from the expected ones, if any."""
    if config.expected.model_digest not in (None, digest):
        raise OtherInputsError(
            f"The files of the model {config.model!r} differ from those of the recipe.",
            field="model",
            remedy="Name the revision of the recipe (model.revision), or remove expected.model_digest.",
        )
