"""Which weights belong to which unit, written out by hand for the small model of three families.

Independent of the families' declarations: hidden size 48, six heads of 8 entries, 40 channels.
"""

from __future__ import annotations

from typing import Any

from qpruner_core.models.families import Unit

ALL = slice(None)
Slices = list[tuple[str, tuple[Any, ...]]]
"""(parameter's path in the layer, index into it)."""

FAMILIES = ("llama", "gpt2", "gpt_neox")
COUNTS = {
    "llama": {Unit.CHANNEL: 40, Unit.QUERY_HEAD: 6, Unit.KEY_VALUE_HEAD: 3},
    "gpt2": {Unit.CHANNEL: 40, Unit.QUERY_HEAD: 6, Unit.KEY_VALUE_HEAD: 6},
    "gpt_neox": {Unit.CHANNEL: 40, Unit.QUERY_HEAD: 6, Unit.KEY_VALUE_HEAD: 6},
}
LAYERS = {"llama": "model.layers", "gpt2": "transformer.h", "gpt_neox": "gpt_neox.layers"}
OUTPUTS = {
    "llama": ("self_attn.o_proj", "mlp.down_proj"),
    "gpt2": ("attn.c_proj", "mlp.c_proj"),
    "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"),
}
"""The modules that end attention and MLP."""


def slices_of(model_type: str, unit: Unit, n: int) -> Slices:
    """All weights and biases that go with unit ``n``."""
    return {"llama": _llama, "gpt2": _gpt2, "gpt_neox": _gpt_neox}[model_type](unit, n)


def _eight(start: int) -> slice:
    return slice(start, start + 8)


def _rows(path: str, rows: slice | int) -> Slices:
    return [(f"{path}.weight", (rows,)), (f"{path}.bias", (rows,))]


def _llama(unit: Unit, n: int) -> Slices:
    if unit == Unit.CHANNEL:
        return [*_rows("mlp.gate_proj", n), *_rows("mlp.up_proj", n), ("mlp.down_proj.weight", (ALL, n))]
    if unit == Unit.QUERY_HEAD:
        return [*_rows("self_attn.q_proj", _eight(8 * n)), ("self_attn.o_proj.weight", (ALL, _eight(8 * n)))]
    return [*_rows("self_attn.k_proj", _eight(8 * n)), *_rows("self_attn.v_proj", _eight(8 * n))]


def _gpt2(unit: Unit, n: int) -> Slices:
    if unit == Unit.CHANNEL:
        return [("mlp.c_fc.weight", (ALL, n)), ("mlp.c_fc.bias", (n,)), ("mlp.c_proj.weight", (n,))]
    if unit == Unit.QUERY_HEAD:
        queries = _eight(8 * n)
        return [
            ("attn.c_attn.weight", (ALL, queries)),
            ("attn.c_attn.bias", (queries,)),
            ("attn.c_proj.weight", (queries,)),
        ]
    return [
        slices
        for start in (48 + 8 * n, 96 + 8 * n)
        for slices in (("attn.c_attn.weight", (ALL, _eight(start))), ("attn.c_attn.bias", (_eight(start),)))
    ]


def _gpt_neox(unit: Unit, n: int) -> Slices:
    if unit == Unit.CHANNEL:
        return [*_rows("mlp.dense_h_to_4h", n), ("mlp.dense_4h_to_h.weight", (ALL, n))]
    if unit == Unit.QUERY_HEAD:
        return [
            *_rows("attention.query_key_value", _eight(24 * n)),
            ("attention.dense.weight", (ALL, _eight(8 * n))),
        ]
    return _rows("attention.query_key_value", slice(24 * n + 8, 24 * n + 24))
