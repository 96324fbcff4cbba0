"""Errors with a stable code, raised where they are detected and translated once at the edge (CLI, HTTP, worker)."""

from __future__ import annotations

import copyreg
from typing import Any


class QPrunerError(Exception):
    """A failure with its cause and its remedy.

    Attributes:
        code: stable identifier of the kind of error, in snake case; part of the public API.
        message: the cause, in one sentence.
        field: dotted path of the invalid setting (``"memory_budget"``, ``"prune.ratio"``), or ``None``.
        remedy: what the user can do about it.
        exit_code: exit code of the command line.
        others: other errors of the same request, where they were found as well.
    """

    code = "internal"
    exit_code = 1

    def __init__(self, message: str, *, field: str | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy
        self.others: tuple[QPrunerError, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # No custom pickling arguments: an __init__ may take more than the message, and errors travel between processes
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.message}" + (f" {self.remedy}" if self.remedy else "")

    def to_dict(self) -> dict[str, str | None]:
        """The error as the JSON object of the API, ``--json`` and the job's row."""
        return {"code": self.code, "message": self.message, "field": self.field, "remedy": self.remedy}


class UserError(QPrunerError):
    """The request is invalid; retrying it unchanged fails again."""

    code = "invalid_request"
    exit_code = 2


class NoHelpError(QPrunerError):
    """This machine cannot measure trials of another one: the search is over, or its own stages would differ."""

    code = "no_help"


class InvalidConfigError(UserError):
    """A setting is unknown, malformed or out of range."""

    code = "invalid_config"


class ModelNotFoundError(UserError):
    """There is no model at that path or hub id."""

    code = "model_not_found"


class ModelTooLargeError(UserError):
    """The model on the hub is larger than this installation's limit."""

    code = "model_too_large"


class ModelGatedError(UserError):
    """The hub requires an accepted licence or a token for this model."""

    code = "model_gated"


class UnsupportedArchitectureError(UserError):
    """The model's architecture has no family declaration."""

    code = "unsupported_architecture"


class UnsupportedByTargetError(UserError):
    """The dense or pruned model cannot be written in the target's format, or its engine cannot read it."""

    code = "unsupported_by_target"


class UnsafeModelError(UserError):
    """The model has only pickled weights, or needs remote code to load."""

    code = "unsafe_model"


class CorruptModelError(UserError):
    """A weight file is truncated, or tensors are missing or of the wrong shape."""

    code = "corrupt_model"


class PathNotAllowedError(UserError):
    """A path lies outside the roots that this installation may read, or cannot be read at all."""

    code = "path_not_allowed"


class OutputInvalidError(UserError):
    """An output directory cannot be written, or holds files that QPruner did not write."""

    code = "output_invalid"


class DatasetNotFoundError(UserError):
    """There is no dataset at that path or id."""

    code = "dataset_not_found"


class DatasetInvalidError(UserError):
    """The dataset is empty, binary, has unknown columns or cannot be parsed."""

    code = "dataset_invalid"


class DatasetTooLargeError(UserError):
    """The dataset is larger than this installation's limit."""

    code = "dataset_too_large"


class DatasetTooShortError(UserError):
    """The dataset has too few tokens to calibrate, train and evaluate."""

    code = "dataset_too_short"


class BudgetInvalidError(UserError):
    """The memory budget is not a positive number of bytes."""

    code = "budget_invalid"


class BudgetInfeasibleError(UserError):
    """The memory budget is below the smallest that the allowed pruning and precisions can reach.

    ``smallest_feasible_bytes`` is the smallest feasible budget with the other settings unchanged.
    """

    code = "budget_infeasible"

    def __init__(
        self, message: str, *, smallest_feasible_bytes: int, field: str = "memory_budget", remedy: str = ""
    ) -> None:
        super().__init__(message, field=field, remedy=remedy)
        self.smallest_feasible_bytes = smallest_feasible_bytes


class HubUnavailableError(QPrunerError):
    """The model hub is unreachable; retrying later may help."""

    code = "hub_unavailable"
    exit_code = 3


class DiskFullError(QPrunerError):
    """A stage could not write its result; no partial result is left behind."""

    code = "disk_full"
    exit_code = 4


class MemoryTooSmallError(QPrunerError):
    """The machine, or its GPU, cannot hold the model; raised before any stage begins."""

    code = "memory_too_small"
    exit_code = 4


class CacheUnusableError(QPrunerError):
    """The cache directory of downloaded and converted models cannot be read or written."""

    code = "cache_unusable"
    exit_code = 2


class TrainingDivergedError(QPrunerError):
    """The loss became NaN or infinite during recovery."""

    code = "training_diverged"
    exit_code = 5


class NotFiniteError(QPrunerError):
    """A model's predictions are NaN: its weights contain NaN or infinity, or it overflows in 16 bits."""

    code = "not_finite"
    exit_code = 5


class CancelledError(QPrunerError):
    """The run was cancelled by its cancel token; finished stages are kept."""

    code = "cancelled"
    exit_code = 130
