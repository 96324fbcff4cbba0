"""The base of every response's model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Part of a response. What a newer service adds is kept and does no harm."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())
