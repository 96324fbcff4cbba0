from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.fitting.fitted_linear import UnfittedLinear, fit_linears
from qpruner_core.fitting.sampled_bank import Sample
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.precisions import Precision
from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.precisions.ggml import GGML
from qpruner_core.quantize.config import QuantizeConfig

SETTINGS = QuantizeConfig(initialisation="zero")
KINDS: dict[str, Precision] = {**GGML, **QUANTIZED}


@given(
    outputs=st.integers(1, 5000), seed=st.integers(0, 99), among=st.lists(st.integers(0, 4999), max_size=20)
)  # fmt: skip
@settings(deadline=None)
def test_a_sample_stands_for_all_outputs(outputs: int, seed: int, among: list[int]) -> None:
    taken = torch.tensor([row for row in among if row < outputs], dtype=torch.int64)
    sample = Sample.of(outputs, seed, taken)
    assert torch.equal(sample.rows, sample.rows.unique())
    assert set(taken.tolist()) <= set(sample.rows.tolist())
    assert sample.counts.sum().item() == pytest.approx(outputs, rel=1e-4)
    assert (sample.counts[torch.isin(sample.rows, taken)] == 1).all()


@pytest.mark.parametrize("name", ["iq4_nl", "q5_1", "q8_0", "iq2_xs", "q3_k", "q4_k", "iq4_xs", "int4_g64"])
@pytest.mark.parametrize("rounding", ["error_feedback", "nearest"])
def test_sampled_outputs_are_rounded_as_in_the_whole(name: str, rounding: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(160, 256, generator=generator).to(torch.bfloat16)
    inputs = torch.randn(300, 256, generator=generator) * torch.rand(256, generator=generator)
    moments = InputMoments(inputs.T @ inputs, len(inputs)) if rounding == "error_feedback" else None
    rows = Sample.of(len(weight), 0).rows
    assert len(rows) < len(weight)
    whole, part = (
        KINDS[name].decode(fit_linears([UnfittedLinear(one, KINDS[name], 0)], SETTINGS, moments=moments)[0].tensors)
        for one in (weight, weight[rows])
    )
    assert torch.equal(whole[rows], part)
