"""Scales of the parts of a super-block: whole numbers of 4 to 8 bits, packed like ggml."""

from __future__ import annotations

from typing import Protocol

import torch

from qpruner_core.precisions.ggml.bit_fields import BitField, pack_fields, unpack_fields

Fields = dict[str, torch.Tensor]
"""Bytes of the blocks by the names of their fields, uint8 ``[n, bytes]``."""


class SubScales(Protocol):
    """Storage of whole numbers from ``lowest`` to ``highest``, one for each part of a super-block."""

    lowest: int
    highest: int

    def pack(self, numbers: torch.Tensor) -> Fields:
        """Fields of the whole ``numbers``, float32 ``[n, parts]``, or ``[n, 2 · parts]`` if minima follow scales."""

    def unpack(self, fields: Fields) -> torch.Tensor:
        """The reverse of :meth:`pack`."""


class Split:
    """Numbers above ``lowest``, in fields of bits: 6 bits for q3_k and iq4_xs, 4 and 4 for q2_k."""

    def __init__(self, lowest: int, highest: int, *fields: BitField) -> None:
        self.lowest, self.highest, self._fields = lowest, highest, fields

    def pack(self, numbers: torch.Tensor) -> Fields:
        """See :class:`SubScales`."""
        return pack_fields((numbers - self.lowest).to(torch.uint8), self._fields)

    def unpack(self, fields: Fields) -> torch.Tensor:
        """See :class:`SubScales`."""
        return unpack_fields(fields, self._fields).float() + self.lowest


class Bytes:
    """Signed bytes, of q6_k."""

    lowest, highest = -128, 127

    def pack(self, numbers: torch.Tensor) -> Fields:
        """See :class:`SubScales`."""
        return {"scales": numbers.to(torch.int8).view(torch.uint8)}

    def unpack(self, fields: Fields) -> torch.Tensor:
        """See :class:`SubScales`."""
        return fields["scales"].view(torch.int8).float()


class Nibbles:
    """16 scales in the lower halves of bytes, 16 minima in the upper ones, of q2_k."""

    lowest, highest = 0, 15

    def pack(self, numbers: torch.Tensor) -> Fields:
        """See :class:`SubScales`."""
        scales, minima = numbers.to(torch.uint8).chunk(2, dim=1)
        return {"scales": scales | minima << 4}

    def unpack(self, fields: Fields) -> torch.Tensor:
        """See :class:`SubScales`."""
        return torch.cat([fields["scales"] & 15, fields["scales"] >> 4], dim=1).float()


class SixBits:
    """8 scales and 8 minima of 6 bits in 12 bytes, of q4_k and q5_k.

    The first four of each lie in the lower 6 bits of a byte; the upper 2 bits of those bytes are the upper bits of the
    last four, whose lower halves share the last four bytes.
    """

    lowest, highest = 0, 63

    def pack(self, numbers: torch.Tensor) -> Fields:
        """See :class:`SubScales`."""
        scales, later_scales, minima, later_minima = numbers.to(torch.uint8).chunk(4, dim=1)
        upper = [scales | later_scales >> 4 << 6, minima | later_minima >> 4 << 6]
        return {"scales": torch.cat([*upper, later_scales & 15 | (later_minima & 15) << 4], dim=1)}

    def unpack(self, fields: Fields) -> torch.Tensor:
        """See :class:`SubScales`."""
        scales, minima, later = fields["scales"].chunk(3, dim=1)
        later_scales = later & 15 | scales >> 6 << 4
        later_minima = later >> 4 | minima >> 6 << 4
        return torch.cat([scales & 63, later_scales, minima & 63, later_minima], dim=1).float()
