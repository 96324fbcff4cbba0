"""Reason why a model cannot be a GGUF file, and the remedy."""

from __future__ import annotations

from dataclasses import dataclass

from qpruner_core.errors import UnsupportedByTargetError

ANOTHER_TARGET = "Choose another target."
STOCK_LAYOUT = 'Choose the layout "stock", or another target.'


@dataclass(frozen=True)
class Refusal:
    """``reason``: a sentence. ``remedy``: the alternative. ``field``: the invalid setting."""

    reason: str
    remedy: str = ANOTHER_TARGET
    field: str = "target"

    def __str__(self) -> str:
        return f"{self.reason} {self.remedy}"

    def error(self) -> UnsupportedByTargetError:
        """The corresponding error."""
        return UnsupportedByTargetError(self.reason, field=self.field, remedy=self.remedy)
