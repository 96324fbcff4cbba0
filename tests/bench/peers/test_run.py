"""The comparison itself, on a tiny model and tiny data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from bench.peers.document import PeersReport, render
from bench.peers.ours import Ours
from bench.peers.peer import Calibration, Quantized
from bench.peers.rows import PeerRow
from bench.peers.run import Amounts, run_peers
from bench.peers.stored_bytes import stored_bytes
from bench.report import this_machine
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.models import load_model
from qpruner_core.models.families import family_of, linear_weight, set_linear_weight
from tests.tiny_model import build_tiny_llama, topic_paragraphs

AMOUNTS = Amounts(tokens=512, examples=4, sequences=2, length=32)


@dataclass
class RoundToGrid:
    """A peer of 6 bits a weight and a float32 a row, rounded to nearest."""

    name: str = "6-bit grid"
    package: str = "torch"
    settings: dict[str, str | int | float] = field(default_factory=dict)
    calls: int = 0

    def quantize(self, model: Path, calibration: Calibration) -> Quantized:
        self.calls += 1
        assert calibration.file.read_text().count("\n") > 1
        loaded = load_model(model)
        size = stored_bytes(loaded)
        for layer in family_of(loaded).decoder_layers(loaded):
            for linear in family_of(loaded).linears_of(layer):
                weight = linear_weight(linear).float()
                step = weight.abs().amax(dim=1, keepdim=True) / 31
                set_linear_weight(linear, ((weight / step).round() * step).to(torch.bfloat16))
                size += weight.numel() * 6 // 8 + 4 * len(weight) - 2 * weight.numel()
        return Quantized(loaded, size, 6.0, "by the format")


@dataclass
class Missing:
    """A peer whose tool is not installed."""

    name: str = "a tool that is not there"
    package: str = "qpruner-no-such-tool"
    settings: dict[str, str | int | float] = field(default_factory=dict)

    def quantize(self, model: Path, calibration: Calibration) -> Quantized:
        import qpruner_no_such_tool  # type: ignore[import-not-found]

        raise AssertionError(qpruner_no_such_tool)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(
        tmp_path_factory.mktemp("tiny") / "llama", train_steps=30, num_hidden_layers=3, dtype="bfloat16"
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    (directory / "text").mkdir()
    (directory / "eval").mkdir()
    paragraphs = topic_paragraphs(100_000)
    for name in ("wikitext2_valid_slice.txt", "ptb_valid.txt"):
        (directory / "text" / name).write_text("\n\n".join(paragraphs[:40]))
    for name in ("c4_demo.jsonl", "novels_lambada_passages.jsonl"):
        (directory / "text" / name).write_text("\n".join(json.dumps({"text": text}) for text in paragraphs[40:]))
    for name in ("lambada", "piqa", "arc_easy", "hellaswag"):
        choices = ["statement"] if name == "lambada" else ["statement", "expression"]
        row = {"task": name, "id": "1", "context": "The assert", "choices": choices, "label": 0}
        (directory / "eval" / f"{name}.jsonl").write_text((json.dumps(row) + "\n") * 4)
    return directory


def test_ours_stands_beside_a_peer_in_no_more_than_its_bytes_and_a_second_run_measures_nothing_anew(
    model: Path, data: Path, tmp_path: Path
) -> None:
    peer = RoundToGrid()
    ways = {
        "peers": [peer, Missing()],
        "uniform": [Ours("ours, uniform NF4", {"precisions": ["nf4"], "embeddings": False})],
        "ours": [Ours("ours, knapsack", {"search": "knapsack"})],
    }

    rows = run_peers(model, data, AMOUNTS, tmp_path, **ways)  # type: ignore[arg-type]

    dense, nf4, grid, ours, missing = rows
    assert dense.bytes == loaded_bytes(load_model(model))
    assert nf4.mean_bits == 4
    assert ours.against == grid.name
    assert ours.allowed == grid.bytes
    assert 0.8 * grid.bytes < ours.bytes <= grid.bytes
    assert "ModuleNotFoundError" in missing.failure
    assert "not installed" in missing.tool
    assert all(set(row.measures) == set(dense.measures) for row in (nf4, grid, ours))
    assert run_peers(model, data, AMOUNTS, tmp_path, **ways) == rows  # type: ignore[arg-type]
    assert run_peers(model, data, AMOUNTS, tmp_path / "elsewhere", known=rows, **ways) == rows  # type: ignore[arg-type]
    assert peer.calls == 1
    _check_document(rows)


def _check_document(rows: list[PeerRow]) -> None:
    report = PeersReport(
        model="tiny", tokens=512, examples=4, sequences=2, length=32, machine=this_machine(), rows=rows
    )  # fmt: skip
    text = render(PeersReport.model_validate_json(report.model_dump_json()))

    assert "## In the bytes of 6-bit grid" in text
    assert "a tool that is not there (qpruner-no-such-tool, not installed): ModuleNotFoundError" in text
    wikitext = rows[2].measures["WikiText-2"]["perplexity"]
    assert f"{wikitext:.2f}" in text


def test_a_smaller_rank_makes_room_where_the_default_does_not_fit(model: Path, data: Path, tmp_path: Path) -> None:
    calibration = Calibration(data / "text" / "c4_demo.jsonl", sequences=2, length=32)
    plain = Ours("NF4", {"precisions": ["nf4"], "embeddings": False})
    default = plain.quantize(model, calibration, None, tmp_path / "default")

    squeezed = plain.quantize(model, calibration, default.bytes - 1, tmp_path / "squeezed")

    assert "rank 8" in default.counted
    assert "rank 4" in squeezed.counted
    assert squeezed.bytes < default.bytes
