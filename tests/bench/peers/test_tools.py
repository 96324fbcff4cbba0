"""Every tool on a tiny model; a tool that is not installed is skipped."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from bench.peers.auto_scheme import AutoScheme, packed_bytes
from bench.peers.hqq_uniform import HqqUniform
from bench.peers.peer import Calibration, Peer
from bench.peers.quanto_uniform import QuantoUniform
from bench.peers.stored_bytes import stored_bytes
from bench.peers.torchao_weights import TorchaoWeights
from qpruner_core.models import load_model
from tests.tiny_model import build_tiny_llama, topic_paragraphs

LENGTH = 32
HIDDEN, INNER, LAYERS = 64, 128, 2
SHAPES = ((64, 64), (32, 64), (32, 64), (64, 64), (INNER, 64), (INNER, 64), (64, INNER))
WEIGHTS = LAYERS * sum(rows * columns for rows, columns in SHAPES)
ROWS = LAYERS * sum(rows for rows, _ in SHAPES)

MODULES = {"auto-round": "auto_round", "hqq": "hqq", "optimum-quanto": "optimum.quanto", "torchao": "torchao"}


def need(package: str) -> None:
    try:
        found = importlib.util.find_spec(MODULES[package]) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        pytest.skip(f"{package} is not installed: it is of the extra bench-peers")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(
        tmp_path_factory.mktemp("tiny") / "llama", train_steps=20, hidden_size=HIDDEN, intermediate_size=INNER,
        num_hidden_layers=LAYERS, dtype="bfloat16",
    )  # fmt: skip


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    file = tmp_path_factory.mktemp("text") / "calibration.jsonl"
    paragraphs = topic_paragraphs(20_000)
    lines = [json.dumps({"text": " ".join(paragraphs[first : first + 4])}) for first in range(0, len(paragraphs), 4)]
    file.write_text("\n".join(lines) + "\n")
    return Calibration(file, sequences=2, length=LENGTH)


def divergence(model: PreTrainedModel, dense: PreTrainedModel) -> float:
    """Mean KL(dense ‖ model) in nats per token."""
    ids = torch.arange(LENGTH).unsqueeze(0)
    with torch.no_grad():
        expected, found = (one(input_ids=ids).logits.float().log_softmax(dim=-1) for one in (dense, model))
    return float((expected.exp() * (expected - found)).sum(dim=-1).mean())


@pytest.mark.parametrize(
    ("peer", "weight_bytes"),
    [
        (HqqUniform(bits=4, group_size=64), WEIGHTS // 2 + WEIGHTS // 64 * 4),
        (QuantoUniform(), WEIGHTS // 2 + ROWS * 4),  # so few columns are one group
        (TorchaoWeights(bits=4, group_size=32), WEIGHTS // 2 + WEIGHTS // 32 * 3),
        (TorchaoWeights(bits=8), WEIGHTS + ROWS * 5),
    ],
    ids=lambda value: value.name if not isinstance(value, int) else "",
)
def test_bytes_of_a_tool_are_those_of_its_packed_weights_and_constants(
    peer: Peer, weight_bytes: int, directory: Path, calibration: Calibration
) -> None:
    need(peer.package)
    dense = load_model(directory)

    quantized = peer.quantize(directory, calibration)

    assert quantized.bytes == pytest.approx(stored_bytes(dense) - 2 * WEIGHTS + weight_bytes, rel=0.005)
    assert quantized.mean_bits in (4, 8)
    assert 0 < divergence(quantized.model, dense) < 0.1


@pytest.mark.slow
def test_auto_scheme_takes_the_bytes_that_auto_round_writes(directory: Path, calibration: Calibration) -> None:
    """Compared with the packed checkpoint that auto-round itself exports."""
    need("auto-round")
    dense = load_model(directory)

    quantized = AutoScheme(6.5, iters=0).quantize(directory, calibration)

    assert 4 < quantized.mean_bits < 8
    assert quantized.bytes < stored_bytes(dense)
    assert 0 < divergence(quantized.model, dense) < 0.1


def test_packed_bytes_are_those_of_the_format_that_auto_round_documents(directory: Path) -> None:
    dense = load_model(directory)
    name = "model.layers.0.mlp.down_proj"  # [64, 128]
    four, eight = ({name: {"bits": bits, "group_size": 128}} for bits in (4, 8))

    before = stored_bytes(dense)

    # qweight, 64 scales in float16, 64 zero points
    assert packed_bytes(dense, four) == before - 64 * 128 * 2 + 64 * 128 // 2 + 64 * 2 + 64 // 2
    assert packed_bytes(dense, eight) == before - 64 * 128 * 2 + 64 * 128 + 64 * 2 + 64
