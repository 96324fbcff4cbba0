"""What the memory model predicts for an allocation is what the tensors of the written file take."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qpruner_core.mixed.groups import precision_by_module
from qpruner_core.models.families import linear_weight
from qpruner_core.precisions.ggml import GGML
from qpruner_core.search.seeds import at_random
from qpruner_core.targets.gguf import PackedTensor, write_gguf
from tests.core.targets.target_cases import TargetCase, random_weights, target_cases
from tests.tiny_model import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(directory)
    return directory


def _written(case: TargetCase, kinds: dict[str, str], tokenizer: Path, path: Path, seed: int) -> int:
    """Bytes of the tensors of the file of random weights, encoded as the quantize stage does."""
    values = random_weights(case, seed)
    model = case.skeleton
    weights: dict[str, torch.Tensor | PackedTensor] = dict(values)
    for module, kind in kinds.items():
        if kind != "bf16":
            name = f"{module}.weight"
            own = model.get_submodule(module)
            stored = values[name] if linear_weight(own).shape == values[name].shape else values[name].T.contiguous()
            weights[name] = PackedTensor(GGML[kind].encode(stored)["weight"], GGML[kind].type)
    write_gguf(path, config=case.config, weights=weights, tokenizer_directory=tokenizer)
    return sum(int(tensor.n_bytes) for tensor in GGUFReader(path).tensors)


@settings(
    deadline=None, max_examples=15, derandomize=True, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(case=target_cases("gguf"), share=st.floats(0, 1), seed=st.integers(0, 999))
def test_the_bytes_of_an_allocation_are_those_of_the_tensors_of_its_file(
    case: TargetCase, share: float, seed: int, tokenizer: Path, tmp_path: Path
) -> None:
    space = case.space(share)
    allocation = at_random(space, random.Random(seed))
    kinds = precision_by_module(case.memory.groups, allocation)
    assert _written(case, kinds, tokenizer, tmp_path / "model.gguf", seed) == case.memory.total(allocation)
