"""Instructions and conversations as training examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from transformers import PreTrainedTokenizerBase

from qpruner_core.data.chat_process import ChatProcess, Rendered, template_name
from qpruner_core.data.left_out import LeftOut
from qpruner_core.data.masking import encode_spans, mask_example
from qpruner_core.data.prompts import as_conversation, chat_of, has_more_than_text, plain_text
from qpruner_core.data.records import InstructionRecord, MessagesRecord
from qpruner_core.data.tokenization import Example

_Dialogue = InstructionRecord | MessagesRecord


@dataclass
class EncodedDialogues:
    """The example of each record, ``None`` where nothing to learn fits; and warnings."""

    examples: dict[_Dialogue, Example | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def encode_dialogues(
    records: Sequence[_Dialogue], tokenizer: PreTrainedTokenizerBase, length: int, start: Sequence[int], day: date
) -> EncodedDialogues:
    """Encode each record with the tokenizer's chat template (on the date ``day``), or in a plain form if there is none.

    The ids are those of ``tokenizer.apply_chat_template`` for the whole conversation. The answers are learned, each
    with the end of its turn.

    Raises:
        DatasetInvalidError: the template rejects too many records.
        CorruptModelError, UnsafeModelError: the template is unusable.
    """
    encoded = EncodedDialogues()
    left_out = LeftOut("conversation")
    folded = lost = incomplete = 0
    for number, (record, rendered) in enumerate(zip(records, _rendered(records, tokenizer, day), strict=True), start=1):
        if rendered.error or not rendered.spans:
            reason = rendered.error or "the template's text does not contain its answers"
            left_out.add(f"record {number}", f"the model's chat template rejects it: {reason}")
            continue
        ids, learned = encode_spans(tokenizer, rendered.text, rendered.spans)
        own_start = list(start)
        if ids[: len(start)] == own_start:
            ids, learned = ids[len(start) :], learned[len(start) :]
        elif tokenizer.chat_template:
            own_start = []  # the template writes none, and neither does generation
        encoded.examples[record] = mask_example(ids, learned, length, own_start)
        folded += rendered.folded
        lost += rendered.lost
        incomplete += rendered.leaves_out
    left_out.check(
        len(records) - left_out.count, len(records), "Give conversations whose roles the model's template knows."
    )
    encoded.warnings += left_out.warnings()
    if folded:
        encoded.warnings.append(
            f"The model's chat template takes no system message: in {folded} records it is prepended to the "
            "user's message."
        )
    if lost:
        encoded.warnings.append(f"{lost} answers are not learned: the model's chat template changes their text.")
    if incomplete:
        encoded.warnings.append(
            f"In {incomplete} records, tools, messages or thoughts are left out: "
            + (
                "the model's chat template does not write them."
                if tokenizer.chat_template
                else "the model has no chat template."
            )
        )
    return encoded


def _rendered(records: Sequence[_Dialogue], tokenizer: PreTrainedTokenizerBase, day: date) -> Iterator[Rendered]:
    if template_name(tokenizer) is None:
        end = str(tokenizer.eos_token or "")
        for record in records:
            text, spans = plain_text(record, end)
            yield Rendered(text, spans, leaves_out=has_more_than_text(record))
        return
    with ChatProcess(tokenizer, day) as process:
        yield from process.render(_chats(records, tokenizer))


def _chats(records: Sequence[_Dialogue], tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, object]]:
    names = {with_tools: template_name(tokenizer, with_tools=with_tools) or "" for with_tools in (False, True)}
    for record in records:
        conversation = as_conversation(record) if isinstance(record, InstructionRecord) else record
        yield chat_of(conversation, names[bool(conversation.tools)])
