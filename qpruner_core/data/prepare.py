"""One dataset, split once, as tokens for every stage."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import torch
from transformers import PreTrainedTokenizerBase

from qpruner_core.data.examples import encode_dialogues
from qpruner_core.data.records import ChoicesRecord, InstructionRecord, MessagesRecord, Record, TextDataset, TextRecord
from qpruner_core.data.splits import Split, split_records
from qpruner_core.data.tokenization import (
    ChoiceExample,
    Example,
    choice_as_example,
    encode_choices,
    encode_stream,
    join,
    start_ids,
    windows,
)
from qpruner_core.dataset_forms import TEMPLATE_DATE
from qpruner_core.errors import DatasetTooShortError

_HELD_OUT_SHARES = (0.1, 0.2, 0.35, 0.5)
_PROBE_WINDOWS = 2
_SHORTEST_EXAMPLE = 16  # tokens; a shorter rest of the training stream is not worth a step


@dataclass(frozen=True)
class DataDigests:
    """SHA-256 (hex) of the parts of the data, so that a stage's key covers the parts it reads.

    ``train``: the training side, of which the calibration text is a seeded sample. ``probe``: the probe windows, which
    do not depend on the evaluation settings. ``measured``: held-out text and choices.
    """

    train: str
    probe: str
    measured: str


@dataclass(frozen=True)
class PreparedData:
    """Tokens for training, calibration and evaluation.

    ``train``: sequences of at most ``sequence_length`` tokens. ``calibration``: LongTensor[n, sequence_length] from the
    training side. ``held_out``: LongTensor[m, sequence_length], non-overlapping windows for evaluation. ``probe``: the
    first one or two of them, for measurements between the stages. ``choices``: held-out multiple-choice records.
    ``warnings``: deviations from the settings.
    """

    train: list[Example]
    calibration: torch.Tensor
    held_out: torch.Tensor
    probe: torch.Tensor
    choices: list[ChoiceExample]
    digests: DataDigests
    warnings: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all parts."""
        parts = (self.digests.train, self.digests.probe, self.digests.measured)
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class _Side:
    """One side of the split as tokens: as one stream, and record by record."""

    stream: torch.Tensor
    examples: list[Example]
    choices: list[ChoiceExample]
    left_out: int = 0


def prepare_data(
    dataset: TextDataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    sequence_length: int,
    calibration_sequences: int,
    held_out_tokens: int,
    max_choices: int,
    seed: int,
    template_date: date = TEMPLATE_DATE,
) -> PreparedData:
    """Split ``dataset`` by ``seed`` (about a tenth is held out) and tokenize both sides.

    If a tenth does not fill one window of ``sequence_length`` tokens, more is held out, up to half. A chat template
    that requests today's date gets ``template_date``.

    Raises:
        DatasetTooShortError: a side does not fill one window; reports the tokens found and needed.
        DatasetInvalidError: the model's chat template rejects too many conversations.
        CorruptModelError, UnsafeModelError: the model's chat template is unusable.
    """
    start = start_ids(tokenizer)
    dialogues = [record for record in dataset.records if isinstance(record, InstructionRecord | MessagesRecord)]
    encoded = encode_dialogues(dialogues, tokenizer, sequence_length, start, template_date)
    if dialogues:
        dataset = replace(dataset, records=tuple(record for record in dialogues if record in encoded.examples))
    tokenize = functools.partial(
        _tokenize, tokenizer=tokenizer, length=sequence_length, start=start, dialogues=encoded.examples
    )
    split, held_out = _hold_out(dataset, tokenize, sequence_length - len(start), seed)
    train = tokenize(split.train, is_prose=split.is_prose)
    train_windows = windows(train.stream, sequence_length, start)
    held_windows = windows(held_out.stream, sequence_length, start)
    examples = train.examples or _stream_examples(train.stream, train_windows, sequence_length, start)
    if not len(train_windows) or not len(held_windows) or not examples:
        raise _too_short(len(train.stream), len(held_out.stream), sequence_length)
    calibration = _sample(train_windows, calibration_sequences, seed)
    probe = held_windows[:_PROBE_WINDOWS].clone()
    held_windows = held_windows[: max(1, held_out_tokens // sequence_length)].clone()
    choices = held_out.choices[:max_choices]
    warnings = [*dataset.warnings, *encoded.warnings]
    if len(calibration) < calibration_sequences:
        warnings.append(
            f"The dataset gives {len(calibration)} calibration sequences of {sequence_length} tokens; the "
            f"settings ask for {calibration_sequences}."
        )
    if left_out := train.left_out + held_out.left_out:
        warnings.append(
            f"{left_out} records were left out: no part of their answers fits into {sequence_length} tokens."
        )
    digests = DataDigests(
        train=_digest(tensor for example in examples for tensor in (example.input_ids, example.labels)),
        probe=_digest([probe]),
        measured=_digest([held_windows], choices),
    )
    return PreparedData(examples, calibration, held_windows, probe, choices, digests, warnings)


def _hold_out(dataset: TextDataset, tokenize: Callable[..., _Side], body: int, seed: int) -> tuple[Split, _Side]:
    for share in _HELD_OUT_SHARES:
        split = split_records(dataset, seed=seed, share=share)
        side = tokenize(split.held_out, is_prose=split.is_prose)
        if len(side.stream) >= body:
            break
    return split, side


def _tokenize(
    records: Sequence[Record],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    start: Sequence[int],
    dialogues: Mapping[InstructionRecord | MessagesRecord, Example | None],
    *,
    is_prose: bool,
) -> _Side:
    texts = [record.text for record in records if isinstance(record, TextRecord)]
    if texts:
        return _Side(encode_stream(tokenizer, texts, separate=not is_prose), [], [])
    examples: list[Example] = []
    choices: list[ChoiceExample] = []
    for record in records:
        example = None
        if isinstance(record, ChoicesRecord):
            choice = encode_choices(tokenizer, record, length, start)
            if choice is not None:
                choices.append(choice)
                example = choice_as_example(choice)
        elif isinstance(record, InstructionRecord | MessagesRecord):
            example = dialogues[record]
        if example is not None:
            examples.append(example)
    stream = join([_without(start, example.input_ids) for example in examples])
    return _Side(stream, examples, choices, left_out=len(records) - len(examples))


def _without(start: Sequence[int], ids: torch.Tensor) -> torch.Tensor:
    return ids[len(start) :] if ids[: len(start)].tolist() == list(start) else ids


def _stream_examples(stream: torch.Tensor, full: torch.Tensor, length: int, start: Sequence[int]) -> list[Example]:
    examples = [Example(row, row) for row in full]
    rest = stream[len(full) * (length - len(start)) :]
    if len(rest) >= _SHORTEST_EXAMPLE:
        ids = torch.cat([torch.tensor(start, dtype=torch.long), rest])
        examples.append(Example(ids, ids))
    return examples


def _sample(rows: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    # A prefix of one order for all counts: a smaller sample still covers all parts of the text
    order = random.Random(seed).sample(range(len(rows)), len(rows))  # noqa: S311  not for secrets
    return rows[order[:count]]


def _digest(tensors: Iterable[torch.Tensor], choices: Iterable[ChoiceExample] = ()) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    for choice in choices:
        digest.update(repr(choice).encode())
    return digest.hexdigest()


def _too_short(train: int, held_out: int, length: int) -> DatasetTooShortError:
    return DatasetTooShortError(
        f"The dataset has {train + held_out} usable tokens, {train} for training and {held_out} held out. Each "
        f"side needs at least {length}: {2 * length} tokens in all.",
        field="dataset",
        remedy=(
            f"Give more text (about {8 * length} characters or more, in several paragraphs or records), or a "
            "smaller sequence_length."
        ),
    )
