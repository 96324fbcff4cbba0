"""A LoRA adapter as its own GGUF file, which llama.cpp applies to the file of its base.

llama.cpp adds ``alpha / rank · B · A`` to a product, with one ``alpha`` for all and the rank of each pair of tensors
(``llama-adapter.h``). Rows of ``B`` are in the order of the base's rows. If a module's weight is split into several
tensors of the base, each has its rows of ``B`` and the whole ``A``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType
from transformers import PretrainedConfig

from qpruner_core.models.families import linear_shape
from qpruner_core.models.gguf.architectures import Architecture
from qpruner_core.models.gguf.header import corrupt
from qpruner_core.models.gguf.keys import ARCHITECTURE
from qpruner_core.models.gguf.layouts import as_stored, stored_rows, transposed
from qpruner_core.models.gguf.split import GgufModel, read_model
from qpruner_core.models.gguf.tensors import read_tensor
from qpruner_core.targets.gguf.loaders import loader_of
from qpruner_core.targets.gguf.plan import layer_config, planned_tensors
from qpruner_core.targets.gguf.reader import described_model, read_gguf
from qpruner_core.targets.gguf.writer import add_value

if TYPE_CHECKING:  # PEFT takes longer to import than torch, and planning only needs shapes
    from peft import PeftModel

    from qpruner_core.adapters import Factors

_ALPHA = "adapter.lora.alpha"
_KIND = {"general.type": "adapter", "adapter.type": "lora"}
_BF16 = GGMLQuantizationType.BF16


def adapter_shapes(config: PretrainedConfig, shapes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Rows of ``B`` and columns of ``A`` of each module (outputs and inputs in ``shapes``) in the file: those of ``A``
    count once for every tensor of the base.

    Raises:
        UnsupportedByTargetError: no architecture of llama.cpp supports the model.
    """
    declared = loader_of(config).declared
    return {name: (rows, len(_names(declared, name)) * columns) for name, (rows, columns) in shapes.items()}


def write_gguf_adapter(
    path: Path,
    *,
    config: PretrainedConfig,
    factors: Mapping[str, Factors],
    alpha: float,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write the adapter of ``factors`` (by module names) for the base of ``config`` to ``path``, in bfloat16.

    ``alpha``: that of the file. ``B`` of a module with another alpha is multiplied by the quotient, which keeps its
    scaling. ``metadata``: as in :func:`qpruner_core.targets.gguf.write_gguf`.

    Raises:
        UnsupportedByTargetError: no architecture of llama.cpp supports the model; nothing is written then.
    """
    loader = loader_of(config)
    writer = GGUFWriter(path, loader.name)
    for key, value in {**_KIND, _ALPHA: alpha, **(metadata or {})}.items():
        add_value(writer, key, value)
    with closing(writer):
        for name, tensor in _tensors(config, loader.declared, factors, alpha):
            data = tensor.to(torch.bfloat16).contiguous().cpu().view(torch.uint8).numpy()
            writer.add_tensor(name, data, raw_dtype=_BF16)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def read_with_adapter(base: Path, adapter: Path, *, dtype: torch.dtype = torch.bfloat16) -> PeftModel:
    """The model of the file ``base`` with the adapter of the file ``adapter`` attached, in eval mode: it computes the
    same as llama.cpp, without the rounding of its products.

    Raises:
        CorruptModelError: the adapter is damaged, or belongs to another base. Of the base: as ``read_gguf``.
    """
    from qpruner_core.adapters import attach_factors

    model = read_gguf(base, dtype=dtype)
    origin = read_model(base)
    declared, config = described_model(origin)
    stored = read_model(adapter)
    alpha = _alpha(stored, origin)
    suffix = ".lora_a"
    known = {name.removesuffix(suffix) for name in stored.tensors if name.endswith(suffix)}
    modules = [name for name, _ in model.named_modules() if name and known & set(_names(declared, name))]
    factors = {name: _factors(stored, declared, config, name, alpha, dtype) for name in modules}
    used = {f"{one}.lora_{factor}" for name in modules for one in _names(declared, name) for factor in "ab"}
    if not factors or (surplus := sorted(stored.tensors.keys() - used)):
        raise corrupt(adapter, f"it holds {surplus[0]!r}, which is unknown to the base" if factors else "it is empty")
    for name, each in factors.items():
        _require_fit(adapter, name, each, model.get_submodule(name))
    return attach_factors(model, factors)


def _tensors(
    config: PretrainedConfig, declared: Architecture, factors: Mapping[str, Factors], alpha: float
) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of the file, in the order of the base's."""
    for part in planned_tensors(config, lambda name: _BF16):
        parameter = part.parameter or ""
        each = factors.get(parameter.removesuffix(".weight"))
        if each is None or not parameter.endswith(".weight"):
            continue
        b = each.b if each.alpha == alpha else each.b.float() * (each.alpha / alpha)
        layout = declared.layout(parameter)
        if layout not in (as_stored, transposed):
            b = b[stored_rows(layout, len(b), layer_config(config, declared, parameter))]
        yield f"{part.name}.lora_a", each.a
        yield f"{part.name}.lora_b", b if layout is transposed else b[part.first : part.last]


def _names(declared: Architecture, module: str) -> tuple[str, ...]:
    return declared.stored_names(f"{module}.weight")


def _alpha(stored: GgufModel, base: GgufModel) -> float:
    expected = {**_KIND, ARCHITECTURE: base.metadata.get(ARCHITECTURE)}
    for key, value in expected.items():
        if stored.metadata.get(key) != value:
            raise corrupt(stored.path, f"{key} is {stored.metadata.get(key)!r} instead of {value!r}")
    alpha = stored.metadata.get(_ALPHA)
    if not isinstance(alpha, float) or not alpha > 0:
        raise corrupt(stored.path, f"{_ALPHA} is {alpha!r}")
    return alpha


def _factors(
    stored: GgufModel, declared: Architecture, config: PretrainedConfig, module: str, alpha: float, dtype: torch.dtype
) -> Factors:
    from qpruner_core.adapters import Factors

    parts: dict[str, list[torch.Tensor]] = {"a": [], "b": []}
    for name in _names(declared, module):
        for factor, found in parts.items():
            tensor = stored.tensors.get(f"{name}.lora_{factor}")
            if tensor is None or len(tensor.shape) != 2:
                raise corrupt(stored.path, f"it lacks the matrix '{name}.lora_{factor}'")
            found.append(read_tensor(tensor, dtype))
    if any(not torch.equal(parts["a"][0], other) for other in parts["a"]):
        raise corrupt(stored.path, f"the parts of {module} have different adapters")
    if len({each.shape[1] for each in parts["b"]}) > 1:
        raise corrupt(stored.path, f"the parts of {module} have different ranks")
    layout, b = declared.layout(f"{module}.weight"), torch.cat(parts["b"])
    if layout not in (as_stored, transposed):
        b = layout(b, layer_config(config, declared, f"{module}.weight"))
    return Factors(parts["a"][0].contiguous(), b.contiguous(), alpha)


def _require_fit(path: Path, name: str, factors: Factors, module: torch.nn.Module) -> None:
    rows, columns = linear_shape(module)
    rank = len(factors.a)
    if tuple(factors.a.shape) != (rank, columns) or tuple(factors.b.shape) != (rows, rank):
        raise corrupt(path, f"its adapter of {name} does not match the base")
