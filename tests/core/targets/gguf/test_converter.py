"""Our files of dense models are those that llama.cpp's own converter writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from tests.core.models.test_gguf_families import VARIANTS
from tests.engines import llama_cpp
from tests.gguf_target import AS_LLAMA_CPP, config_of, random_model, write
from tests.tiny_model import build_tokenizer

_AS_THE_CONVERTER: dict[str, dict[str, Any]] = {
    "falcon": {"intermediate_size": 192, "max_position_embeddings": 2048},
    "gpt2": {"intermediate_size": 192},
    "phi3": VARIANTS["phi3 longrope"][1],
}
"""Sizes that the converter does not read but knows, and the one kind of Phi 3 that it reads."""

_OWN_NAMES: dict[str, dict[str, Any]] = {"gpt2": {"n_ctx": 64}, "gpt_neox": {"rotary_pct": 0.25}}
"""What configs of other releases of transformers have, and the converter asks for."""

_OF_THE_FILE = ("general.name", "general.size_label", "general.basename", "general.finetune", "general.version")


def _fields(reader: GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """For each family our file and the converter's."""
    root = tmp_path_factory.mktemp("converter")
    found, wanted = {}, {}
    for family in AS_LLAMA_CPP:
        directory = root / family
        model = random_model(config_of(family, **_AS_THE_CONVERTER.get(family, {}))).bfloat16()
        model.save_pretrained(directory)
        config = directory / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | _OWN_NAMES.get(family, {})))
        build_tokenizer(directory)
        ours = write(model.float(), root / f"{family}.ours.gguf", torch.bfloat16)
        found[family] = (ours, root / f"{family}.theirs.gguf")
        wanted[directory] = found[family][1]
    llama_cpp.convert(wanted)
    return found


@pytest.mark.parametrize("family", AS_LLAMA_CPP)
def test_the_tensors_are_those_of_the_converter(family: str, files: dict[str, tuple[Path, Path]]) -> None:
    ours, theirs = ({one.name: one for one in GGUFReader(path).tensors} for path in files[family])
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert (ours[name].tensor_type, list(ours[name].shape)) == (tensor.tensor_type, list(tensor.shape)), name
        assert np.array_equal(ours[name].data, tensor.data), name


@pytest.mark.parametrize("family", AS_LLAMA_CPP)
def test_the_metadata_have_all_that_the_converter_writes(family: str, files: dict[str, tuple[Path, Path]]) -> None:
    ours, theirs = (_fields(GGUFReader(path)) for path in files[family])
    differing = {name for name, value in theirs.items() if ours.get(name) != value}
    assert differing <= set(_OF_THE_FILE)
