"""What is measured of a model: perplexity window by window, tasks, and bytes as it is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bench.study.rows import Measures
from bench.study.tasks import TASKS, TaskExample, read_task, score_task
from bench.study.texts import Texts, evaluated_windows
from qpruner_core.adapters import attach_adapter
from qpruner_core.compute.choice import computing
from qpruner_core.loading import load_mixed_checkpoint
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.measure.perplexity import perplexity
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config
from qpruner_core.precision_names import UNQUANTIZED

AT_CHANCE = {
    "BoolQ": "boolq", "WinoGrande": "winogrande", "ARC-challenge": "arc_challenge", "OpenBookQA": "openbookqa",
}  # fmt: skip
"""Tasks that the small model of this benchmark cannot do; name -> file."""

JUDGED = {"LAMBADA": "acc", "PIQA": "acc", "ARC-easy": "acc", "HellaSwag": "acc_norm"}
"""The measure of each task that accuracy is the mean of, as in LLM-Pruner's table."""


@dataclass(frozen=True)
class PaperEvaluation:
    """``texts``: token ids ``[windows, length]``; ``tasks``: examples. Both by name."""

    texts: dict[str, torch.Tensor]
    tasks: dict[str, list[TaskExample]]

    @classmethod
    def read(
        cls, data: Path | None, texts: Texts, tokenizer: PreTrainedTokenizerBase, *, tokens: int, examples: int
    ) -> PaperEvaluation:
        """The first ``tokens`` of each text, the first ``examples`` of each task; without ``data`` there are none."""
        files = {} if data is None else TASKS | AT_CHANCE
        folder = Path() if data is None else data / "eval"
        return cls(
            {name: evaluated_windows(tokenizer, text, tokens, name) for name, text in texts.evaluated.items()},
            {name: read_task(folder / f"{file}.jsonl", tokenizer, examples) for name, file in files.items()},
        )

    def measure(self, model: PreTrainedModel) -> tuple[dict[str, list[float]], Measures]:
        """The loss of every window of every text, in nats a token, and the measures of all texts and tasks."""
        losses = {name: window_losses(model, windows) for name, windows in self.texts.items()}
        measures: Measures = {name: {"perplexity": math.exp(sum(found) / len(found))} for name, found in losses.items()}
        return losses, measures | {name: score_task(model, examples) for name, examples in self.tasks.items()}


@computing()
def window_losses(model: PreTrainedModel, windows: torch.Tensor) -> list[float]:
    """Mean negative log-likelihood of a token of each of ``windows [windows, length]``, in nats."""
    return [math.log(perplexity(model, window.unsqueeze(0), lambda done, total: None)) for window in windows]


def loaded_size(quantized: Path, adapter: Path) -> int:
    """Bytes of the model as a user loads it; where all modules have 16 bits, adapters are merged and take none."""
    model = load_mixed_checkpoint(quantized, adapter)
    _, precision, _ = read_mixed_config(quantized)
    merged = set(precision.precisions.values()) == {UNQUANTIZED}
    factors = sum(
        parameter.numel() * parameter.element_size() for name, parameter in model.named_parameters() if ".lora_" in name
    )
    return loaded_bytes(model) - (factors if merged else 0)


def computing_model(quantized: Path, adapter: Path) -> PreTrainedModel:
    """The same model with 16-bit modules of the very values that the quantized ones multiply with, and with their
    rounding of inputs: on a CPU much faster."""
    return attach_adapter(load_mixed_model(quantized, dequantize=True), adapter).get_base_model()
