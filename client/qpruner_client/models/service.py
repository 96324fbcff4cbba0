"""Bodies of responses. Generated from the OpenAPI description by ``generate_models.py``; not edited by hand."""

from __future__ import annotations

from typing import Literal

from qpruner_client.models.base import Model


class Alive(Model):
    """The process answers."""

    status: Literal["alive"] = "alive"


class PartState(Model):
    """One part that the service stands on. Why it fails is in the log."""

    ready: bool
    detail: str


class Readiness(Model):
    """Ready if every part is."""

    ready: bool
    parts: dict[str, PartState]
