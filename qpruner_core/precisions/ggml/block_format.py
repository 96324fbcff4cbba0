"""Common part of all block formats of ggml: rows of blocks, each with its constants and codes, packed in bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import nn

from qpruner_core.compute.side_by_side import side_by_side
from qpruner_core.precisions.base import Grid, Tensors
from qpruner_core.precisions.ggml.sub_scales import Fields

_AT_ONCE = 2**18
_AT_ONCE_ON_GPU = 2**24
"""Weights that are processed together: a size that fits a processor's caches and keeps a GPU busy."""
LARGEST_F16 = 65504.0


@dataclass(frozen=True)
class BlockFormat(ABC):
    """Weights ``[out, in]`` as ``{"weight": uint8 [out, bytes of a row]}``, packed like ggml's ``type``.

    ``layout``: the fields of a block and their bytes, in order; ``floats``: the float16 fields.
    """

    name: str
    type: GGMLQuantizationType
    layout: tuple[tuple[str, int], ...]
    floats: tuple[str, ...]

    lossless = False

    @property
    def block(self) -> int:
        """Weights of a block."""
        return int(GGML_QUANT_SIZES[self.type][0])

    @property
    def block_bytes(self) -> int:
        """Bytes of a block."""
        return sum(size for _, size in self.layout)

    @property
    @abstractmethod
    def code_bytes(self) -> int:
        """Bytes of a block that hold codes."""

    @property
    def bits_per_weight(self) -> float:
        """Including all constants."""
        return 8 * self.block_bytes / self.block

    def accepts(self, rows: int, columns: int) -> bool:
        """Whether rows consist of whole blocks."""
        return rows > 0 and columns > 0 and columns % self.block == 0

    def weight_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the codes."""
        return rows * (columns // self.block) * self.code_bytes

    def constant_bytes(self, rows: int, columns: int) -> int:
        """Bytes of everything else in the blocks."""
        return rows * (columns // self.block) * (self.block_bytes - self.code_bytes)

    def encode(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """The ``weight [out, in]`` in blocks, each entry at the nearest value of the grid of :meth:`constants`.

        Raises:
            ValueError: rows do not consist of whole blocks.
        """
        return self._encoded(weight, importance, codes=True)

    def constants(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Tensors:
        """:meth:`encode` with codes of zero. ``importance``: float32 ``[in]``, the mean square of each input."""
        return self._encoded(weight, importance, codes=False)

    def decode(self, tensors: Tensors) -> torch.Tensor:
        """:meth:`values`, rounded to bfloat16."""
        return self._decoded(tensors, torch.bfloat16)

    def values(self, tensors: Tensors) -> torch.Tensor:
        """The weight as unpacked by ggml, float32 ``[out, in]``."""
        return self._decoded(tensors, torch.float32)

    def scales(self, tensors: Tensors) -> Tensors:
        """Float16 constants of the blocks by their names in ggml (``d``, ``dmin``, ``m``), float32 ``[out, blocks of a
        row]``."""
        fields, rows = self._fields(tensors), len(tensors["weight"])
        return {name: as_float(fields[name]).view(rows, -1) for name in self.floats}

    def with_scales(self, tensors: Tensors, scales: Tensors) -> Tensors:
        """``tensors`` with these ``scales``, rounded to float16 and clamped to its largest number."""
        return self._with_fields(tensors, {name: as_f16_bytes(scales[name].detach().flatten()) for name in self.floats})

    def values_with(self, tensors: Tensors, scales: Tensors) -> torch.Tensor:
        """:meth:`values` with these unrounded ``scales``; differentiable in them."""
        floats = {name: scales[name].flatten() for name in self.floats}
        return self._values(self._fields(tensors), floats).view(len(tensors["weight"]), -1)

    def round_input(self, inputs: torch.Tensor) -> torch.Tensor:
        """The unchanged inputs."""
        return inputs

    def build(self, tensors: Tensors, bias: torch.Tensor | None) -> nn.Module:
        """A plain linear module with the weight of :meth:`decode`."""
        return plain_linear(self.decode(tensors), bias)

    @abstractmethod
    def grid(self, tensors: Tensors) -> Grid | None:
        """Possible values of the entries with the constants of ``tensors``."""

    @abstractmethod
    def with_codes(self, tensors: Tensors, codes: torch.Tensor) -> Tensors:
        """``tensors`` with the levels of these numbers (``[out, in]``, whole)."""

    @abstractmethod
    def _encode_rows(self, rows: torch.Tensor, importance: torch.Tensor | None, codes: bool) -> Fields:
        """Fields of the blocks of the float32 ``rows [n, in]``; without ``codes``, the fields of the codes are left
        out."""

    @abstractmethod
    def _values(self, fields: Fields, floats: Tensors) -> torch.Tensor:
        """Values of the blocks' ``fields`` with ``floats`` (float32 ``[blocks]``), float32 ``[blocks, block]``."""

    def _encoded(self, weight: torch.Tensor, importance: torch.Tensor | None, codes: bool) -> Tensors:
        rows, columns = weight.shape
        if not self.accepts(rows, columns):
            raise ValueError(f"{self.name} needs rows of a multiple of {self.block} weights, not {columns}")
        if importance is not None:
            importance = positive(importance.to(weight.device, torch.float32))
        packed = torch.zeros(rows, columns // self.block * self.block_bytes, dtype=torch.uint8, device=weight.device)

        def encode_part(part: slice) -> None:
            fields = self._encode_rows(weight[part].float(), importance, codes)
            self._write(packed[part].view(-1, self.block_bytes), fields)

        side_by_side([partial(encode_part, part) for part in parts(rows, columns, weight.is_cuda)], weight.device)
        return {"weight": packed}

    def _decoded(self, tensors: Tensors, dtype: torch.dtype) -> torch.Tensor:
        packed = tensors["weight"]
        blocks = self._blocks_of_a_row(packed)
        values = torch.empty(len(packed), blocks * self.block, dtype=dtype, device=packed.device)
        for part in parts(len(packed), values.shape[1], values.is_cuda):
            fields = self._fields({"weight": packed[part]})
            floats = {name: as_float(fields[name]) for name in self.floats}
            values[part] = self._values(fields, floats).view(-1, values.shape[1])
        return values

    def _blocks_of_a_row(self, packed: torch.Tensor) -> int:
        if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] % self.block_bytes:
            raise ValueError(f"{self.name} is stored as uint8 rows of a multiple of {self.block_bytes} bytes")
        return packed.shape[1] // self.block_bytes

    def _fields(self, tensors: Tensors) -> Fields:
        self._blocks_of_a_row(tensors["weight"])
        blocks = tensors["weight"].reshape(-1, self.block_bytes)
        return {name: blocks[:, place].contiguous() for name, place in self._places()}

    def _with_fields(self, tensors: Tensors, fields: Fields) -> Tensors:
        self._blocks_of_a_row(tensors["weight"])
        packed = tensors["weight"].clone(memory_format=torch.contiguous_format)
        self._write(packed.view(-1, self.block_bytes), fields)
        return tensors | {"weight": packed}

    def _write(self, blocks: torch.Tensor, fields: Fields) -> None:
        for name, place in self._places():
            if name in fields:
                blocks[:, place] = fields[name]

    def _places(self) -> Iterator[tuple[str, slice]]:
        start = 0
        for name, size in self.layout:
            yield name, slice(start, start + size)
            start += size


def parts(rows: int, columns: int, on_gpu: bool) -> Iterator[slice]:
    """Rows that are processed together."""
    at_once = max(1, (_AT_ONCE_ON_GPU if on_gpu else _AT_ONCE) // max(columns, 1))
    return (slice(start, min(start + at_once, rows)) for start in range(0, rows, at_once))


def as_f16_bytes(values: torch.Tensor) -> torch.Tensor:
    """Float32 ``[n]`` as float16, little-endian uint8 ``[n, 2]``; never infinite."""
    return to_f16(values).view(torch.uint8).view(-1, 2)


def to_f16(values: torch.Tensor) -> torch.Tensor:
    """``values`` in float16, clamped to its largest number."""
    return values.clamp(-LARGEST_F16, LARGEST_F16).to(torch.float16)


def as_float(stored: torch.Tensor) -> torch.Tensor:
    """The reverse of :func:`as_f16_bytes`."""
    return stored.contiguous().view(torch.float16).flatten().float()


def positive(importance: torch.Tensor) -> torch.Tensor:
    """``importance [in]`` relative to its mean and always positive: weights without inputs keep their values as far as
    that costs the others nothing."""
    mean = importance.mean()
    return torch.where(mean > 0, importance / mean, 1.0).clamp(min=1e-6)


def plain_linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
    """A linear module with this bfloat16 ``weight [out, in]``."""
    rows, columns = weight.shape
    linear = nn.Linear(columns, rows, bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear
