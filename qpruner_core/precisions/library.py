"""bitsandbytes, imported when something of it is first used.

Importing it takes as long as importing torch, and who asks a precision for bytes alone has no use for it.
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
