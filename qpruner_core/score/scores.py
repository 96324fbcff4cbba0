"""What the score stage finds."""

from __future__ import annotations

from qpruner_core.strict import StrictModel


class Scores(StrictModel):
    """Per layer: mutual information with the prediction (nats), and the KL divergence (nats per token) that each
    precision causes in that layer alone (``sensitivity[layer][bits]``; 0 at 16 bits)."""

    mutual_information: list[float]
    sensitivity: list[dict[int, float]]

    def additive_loss(self, bits: list[int] | tuple[int, ...]) -> float:
        """The divergence of an allocation if layers did not interact."""
        return sum(layer[bit] for layer, bit in zip(self.sensitivity, bits, strict=True))
