"""Packing of small whole numbers into the bytes of a block, in ggml's orders."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BitField:
    """``bits`` of each number, in the bytes called ``name``: ``run`` consecutive numbers take the lowest bits of
    ``run`` bytes, the next ``run`` numbers the bits above them, until the bytes are full."""

    name: str
    bits: int
    run: int

    def pack(self, numbers: torch.Tensor) -> torch.Tensor:
        """The lowest bits of ``numbers`` (uint8 ``[n, count]``) as uint8 ``[n, count · bits / 8]``."""
        per_byte = 8 // self.bits
        if per_byte == 1:
            return numbers
        parts = (numbers & (2**self.bits - 1)).view(len(numbers), -1, per_byte, self.run)
        packed = parts[:, :, 0].clone()
        for place in range(1, per_byte):
            packed |= parts[:, :, place] << (place * self.bits)
        flat: torch.Tensor = packed.flatten(1)
        return flat

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """The numbers, uint8 ``[n, bytes · 8 / bits]``, in ``packed`` (uint8 ``[n, bytes]``)."""
        per_byte = 8 // self.bits
        if per_byte == 1:
            return packed
        parts = packed.reshape(len(packed), -1, 1, self.run)
        shifts = torch.arange(0, 8, self.bits, dtype=torch.uint8, device=packed.device).view(1, 1, -1, 1)
        numbers: torch.Tensor = ((parts >> shifts) & (2**self.bits - 1)).flatten(1)
        return numbers


def pack_fields(numbers: torch.Tensor, fields: tuple[BitField, ...]) -> dict[str, torch.Tensor]:
    """``numbers`` (uint8 ``[n, count]``) in as many ``fields`` as they need, their lowest bits in the first."""
    packed = {}
    for field in fields:
        packed[field.name] = field.pack(numbers)
        if field.bits < 8:
            numbers = numbers >> field.bits
    return packed


def unpack_fields(packed: dict[str, torch.Tensor], fields: tuple[BitField, ...]) -> torch.Tensor:
    """The reverse of :func:`pack_fields`."""
    first, *others = fields
    numbers, shift = first.unpack(packed[first.name]), first.bits
    for field in others:
        numbers = numbers | field.unpack(packed[field.name]) << shift
        shift += field.bits
    return numbers
