"""Tokens that a model has no embeddings for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from qpruner_core.config import parse_config
from qpruner_core.data import ChoiceExample, DataDigests, Example, PreparedData, require_known_tokens, tokens_of
from qpruner_core.errors import CorruptModelError
from qpruner_core.models import load_tokenizer
from qpruner_core.pipeline import compress
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer, topic_paragraphs


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """One with a token more than the model that it came with."""
    made = build_tokenizer(tmp_path_factory.mktemp("added"))
    made.add_tokens(["<tool>", "<end>"])
    return made


def test_added_tokens_that_the_text_does_not_use_are_no_hindrance(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = torch.tensor(tokenizer("A plain text.")["input_ids"])
    require_known_tokens([ids], len(tokenizer) - 2, tokenizer)


def test_an_added_token_in_the_text_is_refused_by_its_name(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = torch.tensor(tokenizer("Call <tool> now.")["input_ids"])
    with pytest.raises(CorruptModelError, match=r"'<tool>' \(300\)") as caught:
        require_known_tokens([ids], len(tokenizer) - 2, tokenizer)
    assert caught.value.field == "model"
    assert "resize_token_embeddings" in caught.value.remedy


@given(
    places=st.sets(st.sampled_from(["input_ids", "calibration", "held_out", "probe", "context", "choice"])),
    rows=st.integers(5, 9),
)
def test_every_token_of_the_prepared_data_is_looked_at(
    tokenizer: PreTrainedTokenizerBase, places: set[str], rows: int
) -> None:
    def ids(place: str) -> torch.Tensor:
        return torch.tensor([[1, rows if place in places else rows - 1, 2]])

    data = PreparedData(
        train=[Example(ids("input_ids")[0], torch.tensor([-100, 1, 2]))], calibration=ids("calibration"),
        held_out=ids("held_out"), probe=ids("probe"), digests=DataDigests("", "", ""),
        choices=[ChoiceExample(ids("context")[0].tolist(), [[1], ids("choice")[0].tolist()], 0)],
    )  # fmt: skip
    if not places:
        require_known_tokens(tokens_of(data), rows, tokenizer)
    else:
        with pytest.raises(CorruptModelError, match=rf"\({rows}\)"):
            require_known_tokens(tokens_of(data), rows, tokenizer)


def test_a_run_ends_before_its_first_stage_where_the_text_has_such_a_token(tmp_path: Path) -> None:
    model = tmp_path / "model"
    build_tokenizer(model)
    small_model("llama", dtype=torch.bfloat16, vocab_size=300).save_pretrained(model)
    tokenizer = load_tokenizer(model)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(model)
    text = tmp_path / "text.txt"
    # In every paragraph: what is over after the last whole window is not read, and need not be known
    text.write_text("\n\n".join(f"{paragraph} And <tool> is used." for paragraph in topic_paragraphs(8000)))
    config = parse_config(
        {"model": str(model), "dataset": str(text),
         "target": "bitsandbytes", "memory_budget": 170_000, "sequence_length": 32}
    )  # fmt: skip
    with pytest.raises(CorruptModelError, match="<tool>"):
        compress(config, tmp_path / "out")
    assert not (tmp_path / "out.work").exists() or not list((tmp_path / "out.work").iterdir())
