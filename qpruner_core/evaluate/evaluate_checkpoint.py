"""Measure a checkpoint on files of the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from qpruner_core.compute.choice import computing
from qpruner_core.compute.config import ComputeDtype
from qpruner_core.data import TextDataset, read_dataset, require_known_tokens, tokens_of_choices
from qpruner_core.data.records import ChoicesRecord, TextRecord, running_text
from qpruner_core.data.tokenization import encode_choices, encode_stream, start_ids, windows
from qpruner_core.errors import DatasetInvalidError, DatasetTooShortError, ModelNotFoundError, UserError
from qpruner_core.loading import ADAPTER, engine_speed, held_bytes, is_gguf, load_compressed
from qpruner_core.measure.choices import choice_accuracy
from qpruner_core.measure.perplexity import perplexity
from qpruner_core.measure.speed import EngineFailedError, Speed, tokens_per_second
from qpruner_core.models import inspect_model, load_model, load_tokenizer
from qpruner_core.models.json_files import read_json_object, require_regular
from qpruner_core.models.model_config import CONFIG_FILE, LARGEST_CONFIG
from qpruner_core.models.positions import refuse_beyond_positions
from qpruner_core.resources import best_device
from qpruner_core.source_policy import SourcePolicy

_PROMPT_TOKENS = 16
_GENERATED_TOKENS = 32


def evaluate_checkpoint(
    directory: Path,
    text: Path,
    tasks: list[Path],
    *,
    length: int,
    max_tokens: int,
    max_choices: int,
    compute_dtype: ComputeDtype = "auto",
    on_warning: Callable[[str], None] = lambda message: None,
) -> dict[str, float | int | str]:
    """Measure a checkpoint.

    The result has: bytes of the model as its engine holds it; perplexity on windows of ``length`` tokens of ``text``;
    accuracy and standard error for each file of ``tasks``, by its name without suffix, or its path as given where
    files share that name; and the number of examples left out because a choice exceeds
    ``length``; tokens generated per second, and the engine that generated them. ``compute_dtype``: type of matrix
    products. ``on_warning`` is called with a message about unused parts of the files.

    Raises:
        InvalidConfigError: ``length`` exceeds the model's context. ModelNotFoundError, CorruptModelError,
            DatasetNotFoundError, DatasetInvalidError, DatasetTooShortError.
    """
    with computing(compute_dtype, best_device()):
        return _evaluate(directory, text, tasks, length, max_tokens, max_choices, on_warning)


def _evaluate(
    directory: Path, text: Path, tasks: list[Path], length: int, max_tokens: int, max_choices: int,
    on_warning: Callable[[str], None],
) -> dict[str, float | int | str]:  # fmt: skip
    model, tokenizer = load_checkpoint(directory)
    refuse_beyond_positions(model.config, length, "sequence_length", what=f"Windows of {length} tokens")
    rows = input_rows(model)
    text_windows = _windows(_read(text, "text", on_warning), text, tokenizer, length, max_tokens)
    require_known_tokens([text_windows], rows, tokenizer)
    result: dict[str, float | int | str] = {
        "bytes": held_bytes(directory, model),
        "tokens": text_windows.numel(),
        "perplexity": perplexity(model, text_windows, _ignore),
        **_speed(directory, model, text_windows[0, :_PROMPT_TOKENS], on_warning),
    }
    for task, name in _names(tasks).items():
        records = _read(task, "tasks", on_warning).records[:max_choices]
        choices = [record for record in records if isinstance(record, ChoicesRecord)]
        encoded = [encode_choices(tokenizer, record, length, start_ids(tokenizer)) for record in choices]
        examples = [example for example in encoded if example is not None]
        if not examples:
            raise DatasetInvalidError(
                f"{task} has no choices.", field="tasks", remedy="Give records with context, choices and label."
            )
        if len(examples) < len(choices):
            result[f"{name}.left_out"] = len(choices) - len(examples)
        require_known_tokens(tokens_of_choices(examples), rows, tokenizer)
        result[f"{name}.acc"], result[f"{name}.acc_stderr"] = choice_accuracy(model, examples, _ignore)
    return result


def _names(tasks: list[Path]) -> dict[Path, str]:
    """A name for the results of each file, no two alike."""
    files = dict.fromkeys(tasks)
    stems = Counter(task.stem for task in files)
    return {task: task.stem if stems[task.stem] == 1 else str(task) for task in files}


def load_checkpoint(directory: Path) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Load an exported checkpoint, or any 16-bit checkpoint or GGUF file of a supported family, onto the GPU if there
    is one, otherwise the CPU."""
    if is_gguf(directory):
        return load_compressed(directory)
    config = directory / CONFIG_FILE
    require_regular(config)
    if not config.is_file():
        raise ModelNotFoundError(
            f"{directory} has no {CONFIG_FILE}.",
            field="model",
            remedy="Name the directory of a checkpoint, or a .gguf file.",
        )
    quantized = read_json_object(config, most_bytes=LARGEST_CONFIG).get("quantization_config")
    if quantized or (directory / ADAPTER).is_dir():
        return load_compressed(directory)
    inspect_model(str(directory.resolve()), SourcePolicy(allow_hub=False))
    return load_model(directory).to(best_device()), load_tokenizer(directory)


def _speed(
    path: Path, model: nn.Module, prompt: torch.Tensor, on_warning: Callable[[str], None]
) -> dict[str, float | int | str]:
    """Tokens generated per second in the checkpoint's engine if it is installed, else in torch."""
    found = None
    try:
        found = engine_speed(path, _GENERATED_TOKENS, gpu=best_device().type != "cpu")
    except EngineFailedError as error:
        on_warning(f"The speed was measured in torch: {error}")
    speed = found or Speed(tokens_per_second(model, prompt, _GENERATED_TOKENS), engine="torch")
    return {"tokens_per_second": speed.tokens_per_second, "speed_engine": speed.engine}


def input_rows(model: nn.Module) -> int:
    """Number of tokens that a loaded checkpoint has embeddings for."""
    return int(model.get_input_embeddings().num_embeddings)  # type: ignore[operator]


def _read(path: Path, field: str, on_warning: Callable[[str], None]) -> TextDataset:
    try:
        dataset = read_dataset(str(path), SourcePolicy())
    except UserError as error:
        error.field = field  # the field of this function, and the file's name, because there may be several
        if str(path) not in error.message:
            error.message = f"{path}: {error.message}"
        raise
    for warning in dataset.warnings:
        on_warning(f"{path}: {warning}")
    return dataset


def _windows(
    dataset: TextDataset, path: Path, tokenizer: PreTrainedTokenizerBase, length: int, max_tokens: int
) -> torch.Tensor:
    texts = [record.text for record in dataset.records if isinstance(record, TextRecord)]
    if not texts:
        raise DatasetInvalidError(
            f"{path} has no plain text.", field="text", remedy="Give a .txt file, or a .jsonl file with text."
        )
    if dataset.is_prose:
        texts = [running_text(dataset.records)]
    stream = encode_stream(tokenizer, texts, separate=not dataset.is_prose)
    rows = windows(stream[:max_tokens], length, start_ids(tokenizer))
    if len(rows) == 0:
        raise DatasetTooShortError(
            f"{min(len(stream), max_tokens)} tokens of {path} are fewer than one window of {length}.",
            field="text",
            remedy="Give more text, a larger --max-tokens, or a smaller --sequence-length.",
        )
    return rows


def _ignore(done: int, total: int) -> None:
    """Ignore progress."""
