"""The base of every response's model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Part of a response. Fields of a newer service are kept."""

    # Built when first used: a command that needs one of them starts without the others
    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=(), defer_build=True)
