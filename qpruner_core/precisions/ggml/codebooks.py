"""iq2_xs, iq2_s, iq3_xxs and iq3_s: byte layouts of their entries, signs and scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gguf import GGMLQuantizationType

from qpruner_core.precisions.ggml.bit_fields import BitField
from qpruner_core.precisions.ggml.codebook_format import CodebookFormat, Codes
from qpruner_core.precisions.ggml.sub_scales import Fields

_SCALES = BitField("scales", 4, 1)


@dataclass(frozen=True, kw_only=True)
class SignBytes(CodebookFormat):
    """A byte of signs for each 8 weights; bits of entries above 8 are in ``high``."""

    high: BitField

    def _pack(self, codes: Codes) -> Fields:
        high = self.high.pack((codes.entries >> 8).to(torch.uint8))
        low = (codes.entries & 255).to(torch.uint8)
        return {"qs": low, "qh": high, "signs": codes.signs, "scales": _packed_scales(codes.scales)}

    def _unpack(self, fields: Fields) -> Codes:
        entries = fields["qs"].long() | self.high.unpack(fields["qh"]).long() << 8
        return Codes(entries, fields["signs"], _unpacked_scales(fields["scales"]))


@dataclass(frozen=True, kw_only=True)
class SignsAboveEntries(CodebookFormat):
    """16 bits for each 8 weights: 9 of the entry, and above them 7 of the signs."""

    def _pack(self, codes: Codes) -> Fields:
        words = codes.entries | (codes.signs.long() & 127) << 9
        return {"qs": _bytes_of_words(words, 2), "scales": _packed_scales(codes.scales)}

    def _unpack(self, fields: Fields) -> Codes:
        words = _words(fields["qs"], 2)
        return Codes(words & 511, _with_last(words >> 9), _unpacked_scales(fields["scales"]))


@dataclass(frozen=True, kw_only=True)
class SignsBelowScale(CodebookFormat):
    """A byte for each 4 weights; 32 bits for each 32: four times 7 of the signs, and above them 4 of the scale."""

    def _pack(self, codes: Codes) -> Fields:
        shifts = torch.arange(0, 28, 7, device=codes.signs.device)
        signs = ((codes.signs.long() & 127).view(len(codes.signs), -1, 4) << shifts).sum(dim=2)
        words = signs | (codes.scales.long() >> 1) << 28
        return {"qs": codes.entries.to(torch.uint8), "scales": _bytes_of_words(words, 4)}

    def _unpack(self, fields: Fields) -> Codes:
        words = _words(fields["scales"], 4)
        shifts = torch.arange(0, 28, 7, device=words.device)
        signs = _with_last((words.unsqueeze(2) >> shifts & 127).flatten(1))
        return Codes(fields["qs"].long(), signs, 2.0 * (words >> 28).float() + 1)


def _packed_scales(scales: torch.Tensor) -> torch.Tensor:
    return _SCALES.pack((scales.long() >> 1).to(torch.uint8))


def _unpacked_scales(packed: torch.Tensor) -> torch.Tensor:
    return 2 * _SCALES.unpack(packed).float() + 1


def _with_last(seven: torch.Tensor) -> torch.Tensor:
    """Signs of 8 weights, uint8, from those of the first 7: the number of negative ones is even."""
    parity = seven ^ seven >> 4
    parity = parity ^ parity >> 2
    parity = (parity ^ parity >> 1) & 1
    return (seven | parity << 7).to(torch.uint8)


def _bytes_of_words(words: torch.Tensor, size: int) -> torch.Tensor:
    """Whole numbers ``[n, count]`` in ``size`` bytes each, the lowest first."""
    shifts = torch.arange(0, 8 * size, 8, device=words.device)
    return (words.unsqueeze(2) >> shifts & 255).to(torch.uint8).flatten(1)


def _words(packed: torch.Tensor, size: int) -> torch.Tensor:
    """The reverse of :func:`_bytes_of_words`, int64."""
    shifts = torch.arange(0, 8 * size, 8, device=packed.device)
    words: torch.Tensor = (packed.long().view(len(packed), -1, size) << shifts).sum(dim=2)
    return words


IQ2_XS = SignsAboveEntries(
    "iq2_xs", GGMLQuantizationType.IQ2_XS, (("d", 2), ("qs", 64), ("scales", 8)), ("d",),
    part=16, unit=0.125, even=True,
)  # fmt: skip
IQ2_S = SignBytes(
    "iq2_s", GGMLQuantizationType.IQ2_S, (("d", 2), ("qs", 32), ("signs", 32), ("qh", 8), ("scales", 8)), ("d",),
    part=16, unit=0.125, high=BitField("qh", 2, 1),
)  # fmt: skip
IQ3_XXS = SignsBelowScale(
    "iq3_xxs", GGMLQuantizationType.IQ3_XXS, (("d", 2), ("qs", 64), ("scales", 32)), ("d",),
    part=32, unit=0.25, even=True,
)  # fmt: skip
IQ3_S = SignBytes(
    "iq3_s", GGMLQuantizationType.IQ3_S, (("d", 2), ("qs", 64), ("qh", 8), ("signs", 32), ("scales", 4)), ("d",),
    part=32, unit=1.0, high=BitField("qh", 1, 1),
)  # fmt: skip
