"""Greedy generation that depends only on the weights and the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import PeftModel
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from qpruner_core.data import require_known_tokens
from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.positions import refuse_beyond_positions


@torch.no_grad()
def generate_greedily(
    model: nn.Module, prompt: torch.Tensor, new_tokens: int, *, stop: Sequence[int] = ()
) -> torch.Tensor:
    """The ``new_tokens`` most likely tokens after ``prompt`` (token ids ``[length]``), one by one, with a KV cache.

    The model's ``generation_config.json`` is ignored: it may request sampling, beams, penalties, or caches. ``stop``:
    tokens that end the generation.
    """
    causal = _causal(model)
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=new_tokens, use_cache=True, pad_token_id=0, eos_token_id=list(stop) or None
    )
    ids = prompt.unsqueeze(0).to(causal.device)
    kept = causal.generation_config
    causal.generation_config = GenerationConfig()  # transformers takes values from it that the settings leave open
    try:
        generated: torch.Tensor = causal.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
        )
    finally:
        causal.generation_config = kept
    return generated[0, ids.shape[1] :]


def continue_text(model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompt: str, new_tokens: int) -> str:
    """Greedy continuation of ``prompt`` by ``model``, up to the end of the text or ``new_tokens``.

    Raises:
        InvalidConfigError: the prompt has no tokens, or prompt and new tokens exceed the model's positions.
        CorruptModelError: the prompt has tokens without embeddings.
    """
    causal = _causal(model)
    ids = torch.tensor(tokenizer(prompt, verbose=False)["input_ids"], dtype=torch.long)
    if not len(ids):
        raise InvalidConfigError("The prompt has no tokens.", field="prompt", remedy="Give some text to continue.")
    what = f"A prompt of {len(ids)} tokens and {new_tokens} new ones"
    refuse_beyond_positions(causal.config, len(ids) + new_tokens, "max_new_tokens", what=what)
    require_known_tokens([ids], causal.get_input_embeddings().num_embeddings, tokenizer)
    new = generate_greedily(model, ids, new_tokens, stop=_stop_tokens(causal, tokenizer))
    return _text_behind(tokenizer, ids.tolist(), new.tolist())


def _text_behind(tokenizer: PreTrainedTokenizerBase, prompt: list[int], new: list[int]) -> str:
    """The text of ``new`` as it follows ``prompt``: decoded alone it may lose its first space."""
    before: str = tokenizer.decode(prompt, skip_special_tokens=True)
    whole: str = tokenizer.decode(prompt + new, skip_special_tokens=True)
    if whole.startswith(before):
        return whole[len(before) :]
    alone: str = tokenizer.decode(new, skip_special_tokens=True)  # the prompt ends within a character
    return alone


def _causal(model: nn.Module) -> PreTrainedModel:
    """The base model, whose modules contain the adapters."""
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(causal, PreTrainedModel)
    return causal


def _stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """End-of-text tokens of the model's config and its tokenizer."""
    named = model.config.eos_token_id
    found = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    return sorted({token for token in found if isinstance(token, int)})
