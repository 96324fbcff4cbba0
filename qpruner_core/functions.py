"""The commands ``evaluate``, ``generate`` and ``front`` as functions, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qpruner_core.compute.choice import computing
from qpruner_core.compute.config import ComputeDtype
from qpruner_core.evaluate.evaluate_checkpoint import evaluate_checkpoint as measured
from qpruner_core.evaluate.evaluate_checkpoint import load_checkpoint
from qpruner_core.measure.generation import continue_text
from qpruner_core.resources import best_device
from qpruner_core.search.stored_search import BudgetAnswer, StoredSearch
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
        text: text file for perplexity.
        tasks: multiple-choice files.
        sequence_length: tokens per window of ``text``.
        max_tokens: most tokens of ``text`` to use.
        max_choices: most examples per task to score.
        compute_dtype: type of matrix products.
        on_warning: called with a message about unused parts of the files.

    Raises:
        InvalidConfigError: ``sequence_length`` exceeds the model's context.
        ModelNotFoundError, CorruptModelError, DatasetNotFoundError, DatasetInvalidError, DatasetTooShortError.
    """
    return measured(
        Path(checkpoint), Path(text), [Path(task) for task in tasks], length=sequence_length, max_tokens=max_tokens,
        max_choices=max_choices, compute_dtype=compute_dtype, on_warning=on_warning,
    )  # fmt: skip


def generate(
    checkpoint: str | Path, prompt: str, *, max_new_tokens: int = 48, compute_dtype: ComputeDtype = "auto"
) -> str:
    """Continue ``prompt`` greedily with a checkpoint; returns the new text without the prompt.

    Raises:
        ModelNotFoundError, CorruptModelError, UnsupportedArchitectureError.
    """
    model, tokenizer = load_checkpoint(Path(checkpoint))
    with computing(compute_dtype, best_device()):
        return continue_text(model, tokenizer, prompt, max_new_tokens)


def front(work_dir: str | Path) -> list[MeasuredTrial]:
    """The Pareto front of bytes and loss of a run's search, by rising bytes.

    Args:
        work_dir: work directory of the run: ``OUTPUT.work``.

    Raises:
        InvalidConfigError: the directory holds no finished search.
    """
    return StoredSearch.read(Path(work_dir)).front()


def best_allocation(work_dir: str | Path, memory_budget: int) -> BudgetAnswer:
    """The best known allocation of a run's search for another budget, without loading a model.

    Args:
        work_dir: work directory of the run: ``OUTPUT.work``.
        memory_budget: bytes of the weights.

    Raises:
        InvalidConfigError: the directory holds no finished search.
        BudgetInfeasibleError: the model does not fit at the lowest precisions of the search.
    """
    return StoredSearch.read(Path(work_dir)).answer(memory_budget)
