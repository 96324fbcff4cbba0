"""Bytes that an engine computes with beside weights and cache: hidden states, buffers of products, logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from transformers import PretrainedConfig

from qpruner_core.device_fit.config import FitConfig
from qpruner_core.device_fit.kv_cache import LLAMA_CPP_BATCH, LLAMA_CPP_PADDING, VLLM_BATCH, layer_caches, padded
from qpruner_core.models.families import Family
from qpruner_core.targets.config import TargetName

_MIB = 2**20


@dataclass(frozen=True)
class Widths:
    """Entries per token of a model, each at its widest layer.

    ``queries``: all query heads of a layer. ``mlp``: one of the MLP's products; with experts, those of all experts per
    token. ``cache``: keys of a layer. ``window``: the longest window of sliding layers; ``None``: no layer slides.
    """

    hidden: int
    queries: int
    mlp: int
    cache: int
    head: int
    vocabulary: int
    window: int | None

    @classmethod
    def of(cls, config: PretrainedConfig, family: Family, target: TargetName) -> Widths:
        """The widths of a model with ``config``, dense or pruned."""
        layers = family.widths(config)
        caches = layer_caches(config, family, target)
        head = family.head_dim(config)
        queries = max(layer.num_attention_heads for layer in layers) * head
        asked = int(getattr(config, "num_experts_per_tok", None) or 0)
        expert = int(getattr(config, "moe_intermediate_size", None) or 0) + config.hidden_size
        experts = max(min(layer.num_experts, asked) for layer in layers) * expert
        windows = [layer.window for layer in caches if layer.window is not None]
        return cls(
            hidden=config.hidden_size,
            queries=queries,
            mlp=max(max(layer.intermediate_size for layer in layers), experts),
            cache=max(layer.values for layer in caches),
            head=head,
            vocabulary=config.vocab_size,
            window=max(windows, default=None),
        )

    @property
    def state(self) -> int:
        """The larger of the hidden state and the queries."""
        return max(self.hidden, self.queries)


def activation_bytes(config: PretrainedConfig, family: Family, fit: FitConfig, target: TargetName) -> int:
    """Upper bound of the bytes of activations in the engine of ``target``; never larger for a model pruned further."""
    return _ACTIVATIONS[target](Widths.of(config, family, target), fit)


def _llama_cpp(widths: Widths, fit: FitConfig) -> int:
    """llama.cpp's compute and output buffers with flash attention, for ``llama-server`` (one row of logits per
    sequence).

    The largest of three MLP products, three times the queries and the logits, with five hidden states, all in float32
    for a batch of 512 tokens; a 16-bit mask over the cells of a sequence, and one over those of sliding layers;
    rotation matrices of quantized caches. Derived from 14 logs of release 11434 on a CPU (Gemma 3 270M and
    SmolLM2-135M, 1 to 16 sequences, 512 to 8,192 cells each): 0.9 to 1.0 MiB above each, of which 1 MiB is our margin.
    """
    tokens = LLAMA_CPP_BATCH
    cells = padded(fit.context, LLAMA_CPP_PADDING)
    logits = 4 * widths.vocabulary * fit.sequences
    masks = 2 * tokens * cells
    if widths.window is not None:
        masks += 2 * tokens * padded(min(cells, widths.window + LLAMA_CPP_BATCH), LLAMA_CPP_PADDING)
    rotations = 2 * 4 * widths.head**2 if fit.cache_type == "q8_0" else 0
    products = max(4 * tokens * 3 * max(widths.mlp, widths.queries), logits) + 4 * tokens * 5 * widths.hidden
    return products + masks + rotations + logits + _MIB


def _vllm(widths: Widths, fit: FitConfig) -> int:
    """vLLM's peak in its profiling run: a batch of 2,048 tokens through a layer in 16 bits, and the sampler's logits in
    16 bits and three times in float32. Derived from the source of vLLM 0.32 (``gpu_model_runner.profile_run``); not
    measured."""
    return VLLM_BATCH * 2 * (3 * widths.mlp + 8 * widths.state) + fit.sequences * widths.vocabulary * (2 + 3 * 4)


def _transformers(widths: Widths, fit: FitConfig) -> int:
    """``generate`` in transformers: all prompts at once through a layer, with a mask over pairs of tokens, the cache of
    one layer twice while it grows, one de-quantized weight of the widest linear module, and the last tokens' logits.

    The factors 6 and 14 are the smallest that hold for three measurements of the peak resident memory (SmolLM2-135M's
    shape, bfloat16 on a CPU, transformers 5.23): 11.0, 60.1 and 70.6 MiB at 1 x 512, 1 x 2048 and 4 x 512 tokens.
    """
    tokens = fit.sequences * fit.context
    layer = tokens * 2 * (6 * widths.mlp + 14 * widths.state) + tokens * fit.context + tokens * 2 * 2 * widths.cache
    weight = 2 * widths.state * max(widths.mlp, widths.state)
    return layer + weight + fit.sequences * widths.vocabulary * (2 + 2 * 4)


_ACTIVATIONS: Mapping[TargetName, Callable[[Widths, FitConfig], int]] = {
    "gguf": _llama_cpp,
    "compressed-tensors": _vllm,
    "bitsandbytes": _transformers,
}
