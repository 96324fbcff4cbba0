"""Matrix products of 16-bit tensors, computed in another type.

Many processors multiply bfloat16 far more slowly than float32: without AVX-512, torch 2.13 uses a plain loop that is 5
to 40 times as slow. Inside :func:`products_in` every such product, forward and backward and from any library, converts
its operands to the given type, one piece at a time, and rounds the result back. Models stay in 16 bits in memory.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from qpruner_core.errors import InvalidConfigError

PIECE = 4 * 2**20
"""Most elements of an operand that are converted at once: 16 MiB in float32. The C library keeps that much for the next
piece instead of returning it to the system."""
_FEW_ROWS = 4
"""Rows up to which a product reads each weight about once, so that converting weights takes longer than multiplying."""
_HALF = (torch.bfloat16, torch.float16)


@contextmanager
def products_in(dtype: torch.dtype, device: torch.device | str = "cpu") -> Iterator[None]:
    """Context manager: compute matrix products of bfloat16 tensors on ``device`` in ``dtype``.

    ``dtype``: bfloat16 changes nothing; float32 and float16 convert the operands. All threads of the process are
    affected, because a backward pass may run in its own thread. Blocks may be nested or overlap.

    Raises:
        InvalidConfigError: an open block computes in another type.
    """
    key = "CUDA" if torch.device(device).type == "cuda" else "CPU"
    with _lock:
        users = _users.setdefault(key, [])
        if users and users[0] != dtype:
            raise InvalidConfigError(
                f"This process already computes matrix products in {_name(users[0])} and cannot switch to "
                f"{_name(dtype)}.",
                field="compute_dtype",
                remedy=f"Wait until the current computation has ended, or choose {_name(users[0])}.",
            )
        if not users and dtype != torch.bfloat16:
            _libraries[key] = _replace_kernels(dtype, key)
        users.append(dtype)
    try:
        yield
    finally:
        with _lock:
            users.pop()
            if not users and key in _libraries:
                _libraries.pop(key)._destroy()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


_lock = threading.Lock()
_users: dict[str, list[torch.dtype]] = {}
"""Open blocks by dispatch key; all of one type."""
_libraries: dict[str, torch.library.Library] = {}


def _replace_kernels(dtype: torch.dtype, key: str) -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that kernels are replaced, which is the purpose
        for name, replacement in _REPLACEMENTS.items():
            if key == "CPU" or not name.endswith("_for_cpu_backward"):
                original = torch.library.get_kernel(f"aten::{name}", key)
                library.impl(name, _replaced(replacement, original, dtype), key, with_keyset=True)
    return library


Kernel = Callable[..., Any]


def _replaced(replacement: Callable[..., Any], original: Any, wide: torch.dtype) -> Kernel:
    """The kernel to register: ``replacement`` for bfloat16 tensors, ``original`` for all others."""

    def kernel(keys: Any, first: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        def call(*given: Any, **given_named: Any) -> Any:
            return original.call_boxed(keys, *given, **given_named)

        if first.dtype != torch.bfloat16:
            return call(first, *arguments, **named)
        return replacement(call, wide, first, *arguments, **named)

    return kernel


def _mm(call: Kernel, wide: torch.dtype, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.shape[0] <= _FEW_ROWS and b.stride(0) == 1:
        result: torch.Tensor = call(a, b)
        return result
    return _product(call, wide, a, b, a.dtype)


def _addmm(
    call: Kernel, wide: torch.dtype, bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: Any = 1,
    alpha: Any = 1,
) -> torch.Tensor:  # fmt: skip
    product = _product(torch.mm, wide, a, b, wide)
    return torch.add(product * alpha if alpha != 1 else product, bias.to(wide), alpha=beta).to(bias.dtype)


def _bmm(call: Kernel, wide: torch.dtype, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    result = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    step = max(1, PIECE // max(1, a[:1].numel(), b[:1].numel(), result[:1].numel()))
    for first in range(0, len(a), step):
        piece = slice(first, first + step)
        result[piece] = call(a[piece].to(wide), b[piece].to(wide))
    return result


def _baddbmm(
    call: Kernel, wide: torch.dtype, bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, beta: Any = 1,
    alpha: Any = 1,
) -> torch.Tensor:  # fmt: skip
    result: torch.Tensor = call(bias.to(wide), a.to(wide), b.to(wide), beta=beta, alpha=alpha)
    return result.to(bias.dtype)


def _attention_backward(
    call: Kernel, wide: torch.dtype, gradient: torch.Tensor, *arguments: Any, **named: Any
) -> tuple[torch.Tensor, ...]:
    """Scaled dot-product attention on the CPU, whose forward pass is not slower in bfloat16."""
    widened = [_widened(argument, wide) for argument in arguments]
    named = {name: _widened(argument, wide) for name, argument in named.items()}
    return tuple(part.to(gradient.dtype) for part in call(gradient.to(wide), *widened, **named))


def _widened(argument: Any, wide: torch.dtype) -> Any:
    half = isinstance(argument, torch.Tensor) and argument.dtype in _HALF
    return argument.to(wide) if half else argument


_REPLACEMENTS: dict[str, Callable[..., Any]] = {
    "mm": _mm,
    "addmm": _addmm,
    "bmm": _bmm,
    "baddbmm": _baddbmm,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}


def _product(call: Kernel, wide: torch.dtype, a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``a [M, K] @ b [K, N]`` of 16-bit operands, computed in ``wide`` piece by piece and returned in ``dtype``."""
    rows, inner, columns = a.shape[0], a.shape[1], b.shape[1]
    if max(a.numel(), b.numel()) <= PIECE:
        return call(a.to(wide), b.to(wide)).to(dtype)  # type: ignore[no-any-return]
    if inner >= max(rows, columns):
        total = a.new_zeros(rows, columns, dtype=wide)
        for k in _pieces(inner, max(rows, columns)):
            total += _product(call, wide, a[:, k], b[k], wide)
        return total.to(dtype)
    result = a.new_empty(rows, columns, dtype=dtype)
    if columns >= rows:
        for n in _pieces(columns, inner):
            result[:, n] = _product(call, wide, a, b[:, n], dtype)
    else:
        for m in _pieces(rows, inner):
            result[m] = _product(call, wide, a[m], b, dtype)
    return result


def _pieces(size: int, other: int) -> Iterator[slice]:
    """Split ``size`` so that a piece times ``other`` has at most :data:`PIECE` elements."""
    step = max(1, PIECE // max(1, other))
    for first in range(0, size, step):
        yield slice(first, min(first + step, size))
