"""Grids whose nearest level needs no search."""

from __future__ import annotations

import torch

from qpruner_core.precisions.base import Grid

E4M3_MAX = 448.0
_LARGEST_MAGNITUDE = 0x7E  # the bits of 448; 0x7F is not a number


class WholeNumbers(Grid):
    """Consecutive whole numbers as levels."""

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        return values.round().clamp_(self._lowest, self._lowest + len(self.levels) - 1).sub_(self._lowest)

    def at(self, numbers: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`."""
        return numbers.float() + self._lowest

    @property
    def _lowest(self) -> float:
        return -float(len(self.levels) // 2)


def whole_numbers(bits: int, scale: torch.Tensor) -> WholeNumbers:
    """Every signed number of ``bits`` bits, times ``scale``."""
    half = 2 ** (bits - 1)
    return WholeNumbers(torch.arange(-half, half, device=scale.device).float(), scale)


class E4M3(Grid):
    """The values of ``float8_e4m3fn``, numbered from -448 (0) over zero (126) to 448 (252)."""

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """See :class:`Grid`; ties to even, as processors round."""
        bits = values.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).view(torch.uint8).short()
        magnitude = bits & 0x7F
        return torch.where(bits > 0x7F, _LARGEST_MAGNITUDE - magnitude, _LARGEST_MAGNITUDE + magnitude).float()


def e4m3(scale: torch.Tensor) -> E4M3:
    """The values of ``float8_e4m3fn`` times ``scale``."""
    numbers = torch.arange(2 * _LARGEST_MAGNITUDE + 1, device=scale.device)
    return E4M3(float8_at(numbers).float(), scale)


def float8_at(numbers: torch.Tensor) -> torch.Tensor:
    """The ``float8_e4m3fn`` values of these ``numbers`` of :class:`E4M3`."""
    from_zero = numbers.short() - _LARGEST_MAGNITUDE
    bits = torch.where(from_zero < 0, 0x80 - from_zero, from_zero)
    return bits.to(torch.uint8).view(torch.float8_e4m3fn)
