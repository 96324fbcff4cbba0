"""A mixed checkpoint is refused by whoever does not know the format, and never read wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from qpruner_core import load_compressed
from tests.core.pipeline.conftest import FinishedRun


@pytest.mark.parametrize("loader", [AutoModelForCausalLM, LlamaForCausalLM])
def test_transformers_finds_no_weights_in_a_mixed_checkpoint(finished_run: FinishedRun, loader: type) -> None:
    mixed = Path(finished_run.output) / "mixed"
    with pytest.raises(OSError, match=r"model\.safetensors"):
        loader.from_pretrained(mixed)  # type: ignore[attr-defined]
    load_compressed(mixed)
