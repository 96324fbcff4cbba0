"""The result of the score stage."""

from __future__ import annotations

from qpruner_core.strict import StrictModel

SCORES = "scores.json"


class Scores(StrictModel):
    """Mutual information of each layer with the prediction (nats), and the KL divergence (nats per token) that each
    precision of a group causes alone (``sensitivity[group][bits]``; 0 at 16 bits), with the groups' names.

    The divergence is measured where ``score.sensitivity`` is "divergence"; by default it is estimated from the Fisher
    information (:mod:`qpruner_core.score.fisher`).
    """

    groups: list[str]
    mutual_information: list[float]
    sensitivity: list[dict[int, float]]

    def additive_loss(self, bits: list[int] | tuple[int, ...]) -> float:
        """The divergence of an allocation if groups did not interact."""
        return sum(group[bit] for group, bit in zip(self.sensitivity, bits, strict=True))
