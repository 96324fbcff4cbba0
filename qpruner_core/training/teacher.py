"""The dense 16-bit model as the teacher, if it fits into memory."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedModel

from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.models import load_model
from qpruner_core.training.losses import Distillation


def load_teacher(directory: Path, settings: FinetuneConfig, device: torch.device) -> Distillation:
    """The model of ``directory``, on ``device``, as the teacher of ``settings``."""
    teacher: PreTrainedModel = load_model(directory).to(device)
    return Distillation(teacher.requires_grad_(False), settings.temperature)
