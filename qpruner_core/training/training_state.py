"""State of a training: all inputs of its next step, and how they are saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from qpruner_core.finetune.config import FinetuneConfig

_FILE = "training.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Curves(BaseModel):
    """``step``: finished optimiser steps. ``losses``: of each of them. ``validation``: (step, loss), in order."""

    model_config = ConfigDict(extra="forbid")

    step: int = 0
    losses: list[float] = []
    validation: list[tuple[int, float]] = []

    @property
    def best(self) -> tuple[int, float]:
        """The first validation with the lowest loss."""
        return min(self.validation, key=lambda point: point[1])

    @property
    def evaluations_since_best(self) -> int:
        """Number of validations after the best one."""
        return len(self.validation) - 1 - self.validation.index(self.best)


class TrainingState:
    """The trained parameters of ``model``: those of its adapter, or its scales.

    The model computes with bfloat16 ``factors``; the optimiser works on float32 ``masters``, because steps are too
    small for bfloat16. ``best``: the factors of the best validation, if any. ``relative``: steps are relative to the
    size of each parameter, its root mean square, or 1 if that is zero.
    """

    def __init__(self, model: nn.Module, settings: FinetuneConfig, *, relative: bool = False) -> None:
        self.factors = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.masters = [torch.nn.Parameter(factor.detach().float().clone()) for factor in self.factors]
        groups = [{"params": [master], "size": _size(master) if relative else 1.0} for master in self.masters]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.0)
        self.curves = Curves()
        self.best: list[torch.Tensor] | None = None
        for factor in self.factors:
            factor.data = factor.data.to(torch.bfloat16)

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["size"]

    def gradients_to_masters(self) -> None:
        """Move the factors' gradients to the masters."""
        for master, factor in zip(self.masters, self.factors, strict=True):
            master.grad = None if factor.grad is None else factor.grad.float()
            factor.grad = None

    def masters_to_factors(self) -> None:
        """Copy the masters to the model's factors."""
        for master, factor in zip(self.masters, self.factors, strict=True):
            factor.data.copy_(master.data)

    def remember_best(self) -> None:
        """Store the present factors as the best so far."""
        self.best = [factor.detach().clone() for factor in self.factors]

    def restore_best(self) -> None:
        """Restore the best factors, if any."""
        for factor, best in zip(self.factors, self.best or [], strict=self.best is not None):
            factor.data.copy_(best)

    def save(self, directory: Path, key: str) -> None:
        """Save the state to ``directory`` atomically, in one file that replaces the last."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {f"master.{index}": master.detach() for index, master in enumerate(self.masters)}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}": moments[name] for name in _MOMENTS}
        tensors |= {f"best.{index}": best for index, best in enumerate(self.best or [])}
        partial = directory / f"{_FILE}.partial"
        try:
            save_file(tensors, partial, {"key": key, "curves": self.curves.model_dump_json()})
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(directory / _FILE)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, directory: Path, key: str) -> bool:
        """Resume from :meth:`save` with the same ``key``; ``False`` if there is nothing usable."""
        try:
            with safe_open(directory / _FILE, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != key:
                    return False
                curves = Curves.model_validate_json(metadata["curves"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            self._take(curves, tensors)
        except (OSError, ValueError, KeyError, SafetensorError):
            return False
        return True

    def _take(self, curves: Curves, tensors: dict[str, torch.Tensor]) -> None:
        count = range(len(self.masters))
        state: dict[str, Any] = self.optimizer.state_dict()
        state["state"] = {
            index: {"step": torch.tensor(float(curves.step)), **{name: tensors[f"{name}.{index}"] for name in _MOMENTS}}
            for index in count
            if f"{_MOMENTS[0]}.{index}" in tensors
        }
        masters = [tensors[f"master.{index}"] for index in count]
        device = self.factors[0].device
        best = [tensors[f"best.{index}"].to(device) for index in count] if curves.validation else None
        if any(saved.shape != master.shape for saved, master in zip(masters, self.masters, strict=True)):
            raise ValueError("of another model")
        self.optimizer.load_state_dict(state)
        for saved, master in zip(masters, self.masters, strict=True):
            master.data.copy_(saved)
        self.masters_to_factors()
        self.curves, self.best = curves, best


def _size(master: torch.Tensor) -> float:
    return float(master.detach().square().mean().sqrt()) or 1.0
