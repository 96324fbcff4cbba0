"""Checkpoints of every family and layout, loaded where our package is not, and where it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_names, find_family, modeling_file
from qpruner_core.models.load import load_model
from qpruner_core.models.reshape import config_with_shape
from tests.core.models.families.pruned_models import (
    LAYOUTS,
    STOCK_LAYOUTS,
    pruned_in_layout,
    some_ids,
)
from tests.core.models.families.shapes import even_shape
from tests.core.small_models import WINDOW, small_config

DTYPES = ("float32", "bfloat16")
SCRIPT = Path(__file__).with_name("reload_checkpoints.py")

Logits = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Logits]:
    """All checkpoints, at <family>/<layout>/<dtype>, and the logits of the models in memory that they were made of."""
    directory, logits = tmp_path_factory.mktemp("checkpoints"), {}
    ids = some_ids(2, 3 * WINDOW)
    torch.save(ids, directory / "ids.pt")
    for model_type in family_names():
        for dtype in DTYPES:
            for layout in LAYOUTS:
                small, family = pruned_in_layout(model_type, layout, getattr(torch, dtype))
                place = f"{model_type}/{layout}/{dtype}"
                write_model(small, family, directory / place, tokenizer_from=directory)
                with torch.no_grad():
                    logits[place] = small(ids).logits
    return directory, logits


@pytest.fixture(scope="module")
def reloaded(written: tuple[Path, Logits], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor | str]:
    """What one child process, in which our package cannot be imported, makes of all checkpoints."""
    directory, _ = written
    place = tmp_path_factory.mktemp("clean")
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(directory), str(place / "answers.pt"), str(torch.get_num_threads())],
        cwd=place, env={"PATH": "", "HF_HOME": str(place / "hf")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: dict[str, torch.Tensor | str] = torch.load(place / "answers.pt")
    return answers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("model_type", family_names())
def test_a_checkpoint_has_the_logits_of_the_model_in_memory_bit_for_bit(
    model_type: str, layout: str, dtype: str, written: tuple[Path, Logits], reloaded: dict[str, torch.Tensor | str]
) -> None:
    directory, in_memory = written
    place, family = f"{model_type}/{layout}/{dtype}", find_family(model_type)
    stock = layout in STOCK_LAYOUTS
    config = json.loads((directory / place / "config.json").read_text())
    assert config["model_type"] == (model_type if stock else family.pruned_model_type)
    modeling_files = [path.name for path in (directory / place).glob("*.py")]
    assert modeling_files == ([] if stock else [modeling_file(family).name])

    for found in [place] if stock or dtype != "float32" else [place, f"{place}/again"]:
        clean = reloaded[found]
        assert isinstance(clean, torch.Tensor), clean
        assert torch.equal(clean, in_memory[place])
    ours = load_model(directory / place, dtype=getattr(torch, dtype))
    assert (type(ours).__name__ == family.model_class) is not stock
    with torch.no_grad():
        assert torch.equal(ours(torch.load(directory / "ids.pt")).logits, in_memory[place])


def test_widths_that_the_stock_config_refuses_come_with_our_class_though_they_are_even() -> None:
    # Phi-3's config measures the factors of a long context against the hidden size divided by the heads
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    config, family = small_config("phi3", rope_parameters=rope), find_family("phi3")
    shape = even_shape(family, config)
    assert config_with_shape(config, family, shape).model_type == "qpruner_phi3"
    assert config_with_shape(config, family, family.widths(config)).model_type == "phi3"
