"""Tokens that a model has no embeddings for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from qpruner_core.data import ChoiceExample, Example, PreparedData, require_known_tokens, tokens_of
from qpruner_core.errors import CorruptModelError
from tests.tiny_model import build_tokenizer


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
    places=st.sets(st.sampled_from(["input_ids", "calibration", "held_out", "context", "choice"])),
    rows=st.integers(5, 9),
)
def test_every_token_of_the_prepared_data_is_looked_at(
    tokenizer: PreTrainedTokenizerBase, places: set[str], rows: int
) -> None:
    def ids(place: str) -> torch.Tensor:
        return torch.tensor([[1, rows if place in places else rows - 1, 2]])

    data = PreparedData(
        train=[Example(ids("input_ids")[0], torch.tensor([-100, 1, 2]))], calibration=ids("calibration"),
        held_out=ids("held_out"), digest="",
        choices=[ChoiceExample(ids("context")[0].tolist(), [[1], ids("choice")[0].tolist()], 0)],
    )  # fmt: skip
    if not places:
        require_known_tokens(tokens_of(data), rows, tokenizer)
    else:
        with pytest.raises(CorruptModelError, match=rf"\({rows}\)"):
            require_known_tokens(tokens_of(data), rows, tokenizer)
