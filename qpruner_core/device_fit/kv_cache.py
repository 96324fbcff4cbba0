"""Bytes of the KV cache that each engine allocates, by layer, from a dense or pruned config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from transformers import PretrainedConfig

from qpruner_core.device_fit.config import CacheType, FitConfig
from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import Family
from qpruner_core.targets.config import TargetName

LLAMA_CPP_BATCH = 512
"""Tokens that llama.cpp computes at once (``--ubatch-size``)."""
LLAMA_CPP_PADDING = 256
"""llama.cpp rounds the cells of a sequence up to a multiple of this."""
LLAMA_CPP_SEQUENCES = 256
"""``LLAMA_MAX_SEQ``."""
LLAMA_CPP_SLIDING = ("gemma2", "gemma3_text")
"""Families whose sliding layers get a shorter cache in llama.cpp; for others it allocates the whole context (Mistral
has the architecture ``llama`` there, and its loader switches Phi-3's window off)."""
VLLM_BLOCK = 16
"""Tokens per block of vLLM's cache."""
VLLM_BATCH = 2048
"""Tokens that vLLM computes at once (``--max-num-batched-tokens``, its default below 70 GiB of device memory)."""
VLLM_BATCHES_IN_FLIGHT = 2
"""Batches whose tokens may be in flight at once with asynchronous scheduling; blocks of sliding layers wait."""

CACHE_TYPES: Mapping[TargetName, tuple[CacheType, ...]] = {
    "gguf": ("f16", "bf16", "q8_0"),
    "compressed-tensors": ("f16", "bf16", "fp8"),
    "bitsandbytes": ("f16", "bf16"),
}
_Q8_0_WEIGHTS, _Q8_0_BYTES = 32, 34


@dataclass(frozen=True)
class LayerCache:
    """Cache of one layer per token: ``values`` entries of keys and as many of values.

    ``window``: tokens that a sliding layer attends to, including the newest; ``None``: all.
    """

    values: int
    window: int | None


def layer_caches(config: PretrainedConfig, family: Family, target: TargetName) -> list[LayerCache]:
    """Cache of each layer of a model with ``config`` (dense or pruned) in the engine of ``target``, first to last.

    Sliding layers are recognised as in transformers' own cache: by ``layer_types``, or without them by the window.
    """
    head_dim = family.head_dim(config)
    types = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    slides = [window is not None] * config.num_hidden_layers
    if target == "gguf" and family.model_type not in LLAMA_CPP_SLIDING:
        slides = [False] * config.num_hidden_layers
    elif types is not None:
        slides = [kind == "sliding_attention" for kind in types]
    # Falcon in transformers repeats keys and values for every query head before it caches them
    repeated = target == "bitsandbytes" and getattr(config, "new_decoder_architecture", False)
    heads = [layer.num_attention_heads if repeated else layer.num_key_value_heads for layer in family.widths(config)]
    return [LayerCache(count * head_dim, window if slide else None) for count, slide in zip(heads, slides, strict=True)]


def kv_cache_bytes(config: PretrainedConfig, family: Family, fit: FitConfig, target: TargetName) -> int:
    """Bytes of keys and values that the engine of ``target`` allocates for ``fit.sequences`` of ``fit.context`` tokens.

    Raises:
        InvalidConfigError: the engine has no such cache type, or cannot serve so many sequences.
    """
    refuse_cache(config, family, fit, target)
    return _CACHES[target](layer_caches(config, family, target), fit)


def refuse_cache(config: PretrainedConfig, family: Family, fit: FitConfig, target: TargetName) -> None:
    """Raise :class:`InvalidConfigError` if the engine of ``target`` cannot have the cache of ``fit``."""
    if fit.cache_type not in CACHE_TYPES[target]:
        raise InvalidConfigError(
            f"The target {target} has no cache of type {fit.cache_type}.",
            field="fit.cache_type",
            remedy=f"Choose one of {', '.join(CACHE_TYPES[target])}.",
        )
    if target == "gguf" and fit.sequences > LLAMA_CPP_SEQUENCES:
        raise InvalidConfigError(
            f"llama.cpp serves at most {LLAMA_CPP_SEQUENCES} sequences at once.",
            field="fit.sequences",
            remedy=f"Choose at most {LLAMA_CPP_SEQUENCES}.",
        )
    if fit.cache_type == "q8_0" and any(layer.values % _Q8_0_WEIGHTS for layer in layer_caches(config, family, target)):
        raise InvalidConfigError(
            f"A cache of type q8_0 holds blocks of {_Q8_0_WEIGHTS} entries, and the keys of this model are not a "
            "multiple of that.",
            field="fit.cache_type",
            remedy="Choose f16 or bf16.",
        )


def most_kv_cache_bytes(config: PretrainedConfig, family: Family, fit: FitConfig, target: TargetName) -> int:
    """Upper bound of the cache of every model pruned from ``config``: heads and whole layers may go, in any order.

    No engine allocates more for less, except vLLM's padding of groups, where the worst mix of layers counts.
    """
    most = kv_cache_bytes(config, family, fit, target)
    layers = layer_caches(config, family, target)
    full, sliding = _kinds(layers)
    if target != "compressed-tensors" or not full or not sliding:
        return most
    mixes = ((full[:keep], sliding[:slide]) for keep in range(1, len(full) + 1) for slide in range(1, len(sliding) + 1))
    return max(most, *(_vllm_groups(*mix, fit) for mix in mixes), *(_vllm_alone(one, fit) for one in (full, sliding)))


def _transformers(layers: Sequence[LayerCache], fit: FitConfig) -> int:
    """``DynamicCache``: a tensor ``[sequences, heads, tokens, head_dim]`` each of keys and values; a sliding layer
    keeps one token less than its window (``cache_utils.DynamicSlidingWindowLayer``, transformers 5.23)."""
    kept = sum(
        layer.values * (fit.context if layer.window is None else min(fit.context, layer.window - 1)) for layer in layers
    )
    return 2 * 2 * fit.sequences * kept


def _llama_cpp(layers: Sequence[LayerCache], fit: FitConfig) -> int:
    """llama.cpp with a separate cache per sequence (``llama-server -c CONTEXT·SEQUENCES -np SEQUENCES``), flash
    attention (else values are padded to the widest layer) and no ``--swa-full``.

    Source: ``llama-context.cpp`` (cells of a sequence), ``llama-kv-cache-iswa.cpp`` (cells of sliding layers), release
    11434; equal to its log for Gemma 3 270M and SmolLM2-135M at nine settings each.
    """
    cells = padded(fit.context, LLAMA_CPP_PADDING)
    total = 0
    for layer in layers:
        own = cells
        if layer.window is not None:
            own = padded(min(cells, layer.window + LLAMA_CPP_BATCH), LLAMA_CPP_PADDING)
        row = layer.values * 2
        if fit.cache_type == "q8_0":
            row = layer.values // _Q8_0_WEIGHTS * _Q8_0_BYTES
        total += 2 * row * own * fit.sequences
    return total


def _vllm(layers: Sequence[LayerCache], fit: FitConfig) -> int:
    """vLLM's blocks (``v1/kv_cache_interface.py``, ``v1/core/kv_cache_utils.py``).

    Equal to vLLM 0.32's own functions for 300 random models of up to 40 layers, except where full and sliding layers
    mix and differ in their number of heads: there the result is 1 to 3.2 times as much.
    """
    full, sliding = _kinds(layers)
    return _vllm_groups(full, sliding, fit) if full and sliding else _vllm_alone(full or sliding, fit)


def _vllm_alone(layers: Sequence[LayerCache], fit: FitConfig) -> int:
    """Layers of one kind, each with pages of its own width."""
    return fit.sequences * sum(_vllm_blocks(layer, fit) * _vllm_page(layer, fit) for layer in layers)


def _vllm_groups(full: Sequence[LayerCache], sliding: Sequence[LayerCache], fit: FitConfig) -> int:
    """Layers of both kinds: padded groups of equally many layers, whose pages are all as wide as the widest."""
    few, many = sorted((len(full), len(sliding)))
    group = many if many < few * 1.5 else few
    blocks = sum(ceil(len(kind) / group) * _vllm_blocks(kind[0], fit) for kind in (full, sliding))
    return fit.sequences * group * blocks * max(_vllm_page(layer, fit) for layer in (*full, *sliding))


def _vllm_blocks(layer: LayerCache, fit: FitConfig) -> int:
    if layer.window is None:
        return -(-fit.context // VLLM_BLOCK)
    tokens = min(layer.window - 1 + VLLM_BATCHES_IN_FLIGHT * VLLM_BATCH, fit.context)
    return -(-tokens // VLLM_BLOCK) + 1  # a window need not start at the start of a block


def _vllm_page(layer: LayerCache, fit: FitConfig) -> int:
    return 2 * VLLM_BLOCK * layer.values * (1 if fit.cache_type == "fp8" else 2)


def _kinds(layers: Sequence[LayerCache]) -> tuple[list[LayerCache], list[LayerCache]]:
    return [one for one in layers if one.window is None], [one for one in layers if one.window is not None]


def padded(count: int, multiple: int) -> int:
    """``count`` rounded up to a multiple of ``multiple``."""
    return -(-count // multiple) * multiple


_CACHES: Mapping[TargetName, Callable[[Sequence[LayerCache], FitConfig], int]] = {
    "gguf": _llama_cpp,
    "compressed-tensors": _vllm,
    "bitsandbytes": _transformers,
}
