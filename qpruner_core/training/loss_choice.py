"""Choice of the loss of a recovery, made once per run and stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, get_args

import torch
from transformers import PretrainedConfig

from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.models.reshape import bytes_in_16_bits
from qpruner_core.resources import best_device, free_memory
from qpruner_core.sizes import format_bytes
from qpruner_core.stage import StageContext
from qpruner_core.stage_store import STAGE_FILE
from qpruner_core.strict import StrictModel

_SHARE_OF_FREE_MEMORY = 0.5  # the rest is for the model under training and activations
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
    needed = bytes_in_16_bits(dense)
    free = free_memory(device)
    teacher = f"the dense model's {format_bytes(needed)}"
    if needed <= free * _SHARE_OF_FREE_MEMORY:
        return LossChoice(loss="distillation", reason=f"{teacher} fit into memory")
    reason = f"{teacher} do not fit into half of the {format_bytes(free)} that are free"
    return LossChoice(loss="cross_entropy", reason=reason)


def loss_of_run(context: StageContext, key_with: Callable[[LossName], str]) -> LossName | None:
    """The loss that the recovery of this run has trained with or will; ``None`` if it trains nothing.

    Known once the quantize stage is finished. ``key_with``: the key of the finetune stage by the loss. A resumed run
    keeps the first choice, whatever memory is free now, also if only its finished stages are available.
    """
    if context.config.finetune.steps == 0:
        return None
    is_open = context.config.finetune.loss == "auto" and context.config.expected.recovery_loss is None
    if is_open and (context.finished("finetune") / STAGE_FILE).is_file():
        key = context.store.key("finetune")
        finished: list[LossName] = [loss for loss in get_args(LossName) if key_with(loss) == key]
        if finished:
            return finished[0]
    return kept_choice(context).loss


def kept_choice(context: StageContext) -> LossChoice:
    """The loss of this training, chosen on first use."""
    progress = context.store.progress_directory("finetune")
    file = progress / f"{recovery_key(context)}.choice.json"
    if file.is_file():
        return LossChoice.model_validate_json(file.read_bytes())
    known = context.config.expected.recovery_loss
    choice = choose_loss(context.config.finetune, context.plan.dense_config, best_device(), known=known)
    progress.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(choice.model_dump_json())
    partial.replace(file)
    return choice


def recovery_key(context: StageContext) -> str:
    """Digest of the inputs of training: the previous stages, which cover the data, and its settings."""
    quantized = context.store.key("quantize")
    recovery = "+".join(context.plan.target.recovery)
    settings = context.config.finetune.model_dump_json()
    return hashlib.sha256(f"{quantized} {recovery} {settings}".encode()).hexdigest()
