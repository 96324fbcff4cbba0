"""The dense 16-bit model as the teacher, if it fits into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.models import load_model
from qpruner_core.models.reshape import empty_model
from qpruner_core.resources import free_memory
from qpruner_core.sizes import format_bytes
from qpruner_core.strict import StrictModel
from qpruner_core.training.losses import Distillation

_SHARE_OF_FREE_MEMORY = 0.5  # the rest is for activations


LossName = Literal["distillation", "cross_entropy"]


class LossChoice(StrictModel):
    """The loss of a recovery, and the reason for it."""

    loss: LossName
    reason: str


def choose_loss(
    settings: FinetuneConfig, dense: PretrainedConfig, device: torch.device, *, known: LossName | None = None
) -> LossChoice:
    """The configured loss; "auto" distils if the dense model of this config fits into the free memory of ``device``,
    unless the choice is ``known``."""
    if settings.loss != "auto":
        return LossChoice(loss=settings.loss, reason="as configured")
    if known is not None:
        return LossChoice(loss=known, reason="it did so when the recipe was made")
    needed = sum(parameter.numel() for parameter in empty_model(dense).parameters()) * torch.bfloat16.itemsize
    free = free_memory(device)
    teacher = f"the dense model's {format_bytes(needed)}"
    if needed <= free * _SHARE_OF_FREE_MEMORY:
        return LossChoice(loss="distillation", reason=f"{teacher} fit into memory")
    reason = f"{teacher} do not fit into half of the {format_bytes(free)} that are free"
    return LossChoice(loss="cross_entropy", reason=reason)


def load_teacher(directory: Path, settings: FinetuneConfig, device: torch.device) -> Distillation:
    """The model of ``directory``, on ``device``, as the teacher of ``settings``."""
    teacher: PreTrainedModel = load_model(directory).to(device)
    return Distillation(teacher.requires_grad_(False), settings.temperature)
