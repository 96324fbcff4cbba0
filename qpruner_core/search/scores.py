"""The result of the score stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator

from qpruner_core.precision_names import precision_names
from qpruner_core.strict import StrictModel

SCORES = "scores.json"


class Scores(StrictModel):
    """Mutual information of each layer with the prediction (nats), and the KL divergence (nats per token) that each
    precision of a group causes alone (``sensitivity[group][precision]``; 0 without quantization), with the groups'
    names.

    The divergence is measured if ``score.sensitivity`` is "divergence"; by default it is estimated from the Fisher
    information (:mod:`qpruner_core.measure.fisher`).
    """

    groups: list[str]
    mutual_information: list[float]
    sensitivity: Annotated[list[dict[str, float]], BeforeValidator(precision_names)]

    def additive_loss(self, allocation: Sequence[str]) -> float:
        """The divergence of an allocation of independent groups."""
        return sum(group[option] for group, option in zip(self.sensitivity, allocation, strict=True))
