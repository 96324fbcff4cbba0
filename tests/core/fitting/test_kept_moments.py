from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from qpruner_core import compress
from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.fitting.fit_files import DIRECTORY
from qpruner_core.fitting.kept_moments import KeptMoments, MomentsOfModules
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions.ggml import GGML
from tests.core.pipeline.conftest import checkpoint_hashes, quick_config

CPU = torch.device("cpu")


def moments_of(width: int, seed: int) -> InputMoments:
    inputs = torch.randn(200, width, generator=torch.Generator().manual_seed(seed))
    return InputMoments(inputs.T @ inputs, len(inputs))


def none_missing(names: Sequence[str]) -> Iterator[MomentsOfModules]:
    raise AssertionError(names)


@pytest.fixture
def kept(tmp_path: Path) -> KeptMoments:
    """With moments of two inputs; that of ``q`` and ``k`` is the same."""
    kept = KeptMoments(tmp_path / "moments", CPU)
    found: list[MomentsOfModules] = [(["q", "k"], moments_of(64, 0)), (["down"], moments_of(256, 1)), (["table"], None)]
    list(kept.those_of(["q", "k", "down", "table"], lambda names: iter(found), keep=True))
    return kept


@pytest.mark.parametrize("name", ["q4_1", "q8_0", "iq2_s", "q5_k"])
def test_weights_are_rounded_by_kept_moments_as_by_those_that_were_worked_out(kept: KeptMoments, name: str) -> None:
    weight = torch.randn(40, 256, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    [(_, read)] = kept.those_of(["down"], none_missing, keep=False)
    assert read is not None
    both = [encode_with_feedback([(weight, GGML[name])], moments)[0] for moments in (moments_of(256, 1), read)]
    assert torch.equal(both[0]["weight"], both[1]["weight"])
    assert torch.equal(moments_of(256, 1).scale, read.scale)


def test_modules_that_share_moments_come_together_and_only_those_wanted(kept: KeptMoments) -> None:
    assert sorted(names for names, _ in kept.those_of(["k", "down", "q"], none_missing, keep=False)) == [
        ["down"],
        ["q", "k"],
    ]
    assert [names for names, _ in kept.those_of(["k"], none_missing, keep=False)] == [["k"]]


def test_what_has_no_whole_file_is_missing(kept: KeptMoments, tmp_path: Path) -> None:
    file = tmp_path / "moments" / "down.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    asked: list[str] = []

    def missing(names: Sequence[str]) -> Iterator[MomentsOfModules]:
        asked.extend(names)
        yield from (([name], None) for name in names)

    found = [names for names, _ in kept.those_of(["q", "down", "table"], missing, keep=False)]
    assert asked == ["down", "table"]
    assert found == [["q"], ["down"], ["table"]]


def test_a_run_that_lost_its_moments_writes_the_same_checkpoint(
    tiny_llama: Path, text_dataset: Path, tmp_path: Path
) -> None:
    config = quick_config(tiny_llama, text_dataset, target="gguf", memory_budget=200_000, finetune={"steps": 0})
    compress(config, tmp_path / "first")
    assert list((tmp_path / "first.work" / DIRECTORY).glob("*/moments/*.safetensors"))
    for stage in ("prune", "score"):
        shutil.copytree(tmp_path / "first.work" / stage, tmp_path / "second.work" / stage)
    compress(config, tmp_path / "second")
    assert not list((tmp_path / "second.work" / DIRECTORY).glob("*/moments/*.safetensors"))
    assert checkpoint_hashes(tmp_path / "first") == checkpoint_hashes(tmp_path / "second")
