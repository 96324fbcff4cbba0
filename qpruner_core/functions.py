"""The commands ``evaluate``, ``generate`` and ``front`` as functions, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qpruner_core.compute.choice import computing
from qpruner_core.compute.config import ComputeDtype
from qpruner_core.evaluate.evaluate_checkpoint import evaluate_checkpoint as measured
from qpruner_core.evaluate.evaluate_checkpoint import load_checkpoint
from qpruner_core.measure.generation import continue_text
from qpruner_core.search.stored_search import StoredSearch
from qpruner_core.search.trial import MeasuredTrial


def evaluate_checkpoint(
    checkpoint: str | Path,
    text: str | Path,
    *,
    tasks: Sequence[str | Path] = (),
    sequence_length: int = 256,
    max_tokens: int = 16384,
    max_choices: int = 200,
    compute_dtype: ComputeDtype = "auto",
    on_warning: Callable[[str], None] = lambda message: None,
) -> dict[str, float | int | str]:
    """Measure a checkpoint: bytes of its weights, perplexity on ``text``, accuracy on ``tasks``, speed.

    Args:
        checkpoint: a checkpoint of a run, any 16-bit model directory, or a GGUF file.
        text: file with text that perplexity is measured on, in windows of ``sequence_length`` tokens, ``max_tokens`` at
            most.
        tasks: multiple-choice files, of which ``max_choices`` examples each are scored.
        compute_dtype: type of matrix products.
        on_warning: called with what of the files is not used.

    Raises:
        InvalidConfigError: the model does not read ``sequence_length`` tokens.
        ModelNotFoundError, CorruptModelError, DatasetNotFoundError, DatasetInvalidError, DatasetTooShortError.
    """
    return measured(
        Path(checkpoint), Path(text), [Path(task) for task in tasks], length=sequence_length, max_tokens=max_tokens,
        max_choices=max_choices, compute_dtype=compute_dtype, on_warning=on_warning,
    )  # fmt: skip


def generate(
    checkpoint: str | Path, prompt: str, *, max_new_tokens: int = 48, compute_dtype: ComputeDtype = "auto"
) -> str:
    """The greedy continuation of ``prompt`` by a checkpoint, without the prompt.

    Raises:
        ModelNotFoundError, CorruptModelError, UnsupportedArchitectureError.
    """
    model, tokenizer = load_checkpoint(Path(checkpoint))
    with computing(compute_dtype):
        return continue_text(model, tokenizer, prompt, max_new_tokens)


def front(work_dir: str | Path) -> list[MeasuredTrial]:
    """The Pareto front of bytes and loss that a run's search found, by rising bytes. ``work_dir``: ``OUTPUT.work``.

    Raises:
        InvalidConfigError: there is no finished search.
    """
    return StoredSearch.read(Path(work_dir)).front()
