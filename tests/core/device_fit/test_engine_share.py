"""The engine's own share of the memory: at least what was measured, and little more."""

from __future__ import annotations

import pytest

from qpruner_core.device_fit.config import FitConfig
from qpruner_core.device_fit.engine_share import engine_bytes

_MIB = 2**20


def vllm_on_a_cpu(vocabulary: int, memory: int = 24 * 10**9) -> int:
    return engine_bytes(FitConfig(memory=memory, sequences=4), "compressed-tensors", "cpu", vocabulary)


@pytest.mark.parametrize(("vocabulary", "measured"), [(512, 1359), (49_152, 1643), (262_144, 3383)])
def test_vllm_on_a_cpu_takes_what_was_measured(vocabulary: int, measured: int) -> None:
    """Release 0.32; ``measured`` in MiB, of a small vocabulary, SmolLM2-135M and Gemma 3 270M."""
    assert measured * _MIB <= vllm_on_a_cpu(vocabulary) <= 1.1 * measured * _MIB


def test_vllm_takes_a_share_of_a_card_but_not_of_main_memory() -> None:
    assert vllm_on_a_cpu(1000, 24 * 10**9) == vllm_on_a_cpu(1000, 240 * 10**9)
    small, large = (
        engine_bytes(FitConfig(memory=memory), "compressed-tensors", "gpu", 1000) for memory in (24 * 10**9, 10**11)
    )
    assert large - small == pytest.approx(0.08 * (10**11 - 24 * 10**9), rel=1e-6)
