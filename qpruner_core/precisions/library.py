"""bitsandbytes, imported on first use.

Importing it takes as long as importing torch, and callers that only need the bytes of a precision do not use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class _LoadedWhenUsed:
    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)


bnb: Any = _LoadedWhenUsed("bitsandbytes")
