"""What the comparison compares: other tools as a user would take them, and ours beside them."""

from __future__ import annotations

from bench.peers.auto_scheme import AutoScheme
from bench.peers.hqq_uniform import HqqUniform
from bench.peers.ours import Ours
from bench.peers.peer import Peer
from bench.peers.quanto_uniform import QuantoUniform
from bench.peers.torchao_weights import TorchaoWeights

PEERS: tuple[Peer, ...] = (
    QuantoUniform(),
    HqqUniform(bits=4, group_size=64),
    TorchaoWeights(bits=4, group_size=32),
    TorchaoWeights(bits=8),
    AutoScheme(5.5, iters=0),
)

UNIFORM = (
    Ours("ours, uniform NF4", {"precisions": ["nf4"], "embeddings": False}),
    Ours("ours, uniform INT8", {"precisions": ["int8"], "embeddings": False}),
)
"""Of as many bytes as they take."""

OURS = (
    Ours("ours, knapsack", {"search": "knapsack"}),
    Ours("ours, Bayesian"),
    Ours("ours, Bayesian, embeddings in 16 bits", {"embeddings": False}),
)
"""At the bytes of each peer."""
