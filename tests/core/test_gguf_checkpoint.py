"""A GGUF file where a checkpoint may be named: loading, ``generate`` and ``evaluate``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from qpruner_core import load_compressed
from qpruner_core.cli import app
from qpruner_core.errors import CorruptModelError, ModelNotFoundError
from qpruner_core.models.gguf.split import read_model
from tests.gguf_target import DIFFERENT, config_of, pruned_config, random_model, write
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_model import build_tiny_llama, write_text_dataset


def here(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "100"})


@pytest.mark.parametrize("different", [False, True])
def test_a_file_of_ours_loads_as_the_model_that_it_was_written_from(different: bool, tmp_path: Path) -> None:
    model = random_model(pruned_config("llama", DIFFERENT) if different else config_of("llama"))
    loaded, tokenizer = load_compressed(write(model, tmp_path / "model.gguf"))
    ids = torch.tensor([tokenizer("The with statement")["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(loaded.float()(ids).logits, model(ids).logits, atol=1e-4)


def test_generate_and_evaluate_take_a_file_of_another_program(tmp_path: Path) -> None:
    path = write_tiny_gguf(build_tiny_llama(tmp_path / "tiny", train_steps=0), tmp_path / "other.gguf")
    stored = sum(tensor.size for tensor in read_model(path).tensors.values())
    generated = here("generate", str(path), "--prompt", "The", "--max-new-tokens", "4", "--json")
    assert generated.exit_code == 0, generated.output
    assert json.loads(generated.stdout)["bytes"] == stored
    text = write_text_dataset(tmp_path / "prose.txt")
    options = ("--sequence-length", "64", "--max-tokens", "256", "--json")
    evaluated = here("evaluate", str(path), "--text", str(text), *options)
    assert evaluated.exit_code == 0, evaluated.output
    found = json.loads(evaluated.stdout)
    assert found["bytes"] == stored
    assert found["perplexity"] > 1


def test_a_file_that_is_no_gguf_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK" + bytes(1000))
    done = here("generate", str(path), "--prompt", "The", "--json")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == CorruptModelError.code
    assert "model.gguf" in error["message"]
    assert error["remedy"]


def test_a_file_that_is_not_there_is_refused_with_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="There is no file"):
        load_compressed(tmp_path / "model.gguf")


@pytest.mark.timeout(20)
def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(CorruptModelError, match="not a regular file"):
        load_compressed(tmp_path / "model.gguf")
