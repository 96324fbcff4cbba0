"""The rows of the comparison with peers."""

from __future__ import annotations

from pydantic import BaseModel

from bench.rows import Measures


class PeerRow(BaseModel):
    """A quantized model and what it can do.

    ``tool``: of PyPI with its version, or ours. ``bytes``: of the loaded model, adapters included; ``allowed``: those
    it was asked for, of the row named ``against``. ``mean_bits``: of a weight of the layers, without constants.
    ``seconds``: from the dense checkpoint to the quantized one; ours counts scores that rows share in each of them.
    ``failure``: why there are no measures.
    """

    name: str
    tool: str
    settings: dict[str, str | int | float]
    bytes: int = 0
    allowed: int | None = None
    against: str | None = None
    mean_bits: float = 16.0
    seconds: float = 0.0
    counted: str = "storages of the loaded model"
    measures: Measures = {}
    failure: str = ""
