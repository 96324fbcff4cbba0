"""Numbers of a few bits in 32-bit words, in the format ``pack-quantized``.

``pack_to_int32`` of the library ``compressed-tensors`` does the same in version 0.20. In 0.17, the version of vLLM
0.32, it leaves bits unused if 32 is not a multiple of the width (3, 5, 6, 7), while vLLM itself reads the dense form.
So we pack ourselves, and tests compare with the library.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import pad

_WORD = 32


def words(columns: int, bits: int) -> int:
    """32-bit words of a row of ``columns`` numbers of ``bits`` bits."""
    return math.ceil(columns * bits / _WORD)


def pack(numbers: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 ``[out, words]`` of whole ``numbers [out, in]`` from 0 to ``2**bits - 1``, of any dtype.

    Number i of a row starts at bit ``i · bits``, lowest bit first; at the end of a word the number continues in the
    next.
    """
    rows, columns = numbers.shape
    blocks = pad(numbers.to(torch.int32), (0, -columns % _WORD)).view(rows, -1, _WORD)
    packed = torch.zeros(rows, blocks.shape[1], bits, dtype=torch.int32, device=numbers.device)
    for index in range(_WORD):
        word, start = divmod(index * bits, _WORD)
        packed[..., word] |= blocks[..., index] << start
        if start + bits > _WORD:
            packed[..., word + 1] |= blocks[..., index] >> (_WORD - start)
    return packed.view(rows, -1)[:, : words(columns, bits)].contiguous()


def unpack(packed: torch.Tensor, bits: int, columns: int) -> torch.Tensor:
    """The numbers uint8 ``[out, columns]`` that :func:`pack` packed.

    Raises:
        ValueError: the number of words is wrong.
    """
    rows, count = packed.shape
    if packed.dtype != torch.int32 or count != words(columns, bits):
        raise ValueError(f"{columns} numbers of {bits} bits do not fit {count} words of {packed.dtype}")
    blocks = pad(packed, (0, -count % bits)).view(rows, -1, bits)
    numbers = torch.empty(rows, blocks.shape[1], _WORD, dtype=torch.uint8, device=packed.device)
    mask = (1 << bits) - 1
    for index in range(_WORD):
        word, start = divmod(index * bits, _WORD)
        # Shifting keeps the sign, whose copies the mask removes: it is never wider than the rest of the word
        value = (blocks[..., word] >> start) & (mask & ((1 << (_WORD - start)) - 1))
        if start + bits > _WORD:
            value |= (blocks[..., word + 1] << (_WORD - start)) & mask
        numbers[..., index] = value
    return numbers.view(rows, -1)[:, :columns].contiguous()
