"""The formats of ggml, for llama.cpp and Ollama.

A new one is an object in a file here, found by its type, and its line in :mod:`qpruner_core.precision_names`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from qpruner_core.precision_names import PRECISIONS
from qpruner_core.precisions.ggml.block_format import BlockFormat
from qpruner_core.precisions.ggml.scalar_format import ScalarFormat
from qpruner_core.precisions.ggml.sixteen_bits import SixteenBits

__all__ = ["GGML", "BlockFormat", "GgmlPrecision", "ScalarFormat", "SixteenBits"]

_PLACES = list(PRECISIONS)
GgmlPrecision = BlockFormat | SixteenBits


def _declared() -> Iterator[GgmlPrecision]:
    """Formats in the files beside this one."""
    for file in iter_modules(__path__):
        values = vars(import_module(f"{__name__}.{file.name}")).values()
        yield from (value for value in values if isinstance(value, GgmlPrecision))


GGML: Mapping[str, GgmlPrecision] = MappingProxyType(
    {precision.name: precision for precision in sorted(_declared(), key=lambda one: _PLACES.index(one.name))}
)
"""Every precision of ggml by name, in the order of bits per weight."""
