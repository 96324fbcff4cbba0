"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Literal

from qpruner_client.models.base import Model


class Alive(Model):
    """The process responds."""

    status: Literal["alive"] = "alive"
    """Always `alive`."""


class PartState(Model):
    """One part that the service depends on. The log has the reason of a failure."""

    ready: bool
    """Whether the part can be used."""

    detail: str
    """Its state, in words."""


class Readiness(Model):
    """Ready if every part is."""

    ready: bool
    """Whether every part is ready."""

    parts: dict[str, PartState]
    """State of each part."""
