"""Hostile and broken files: looking at a model ends soon, takes no memory, and says what is wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from qpruner_core.errors import CorruptModelError, QPrunerError
from qpruner_core.evaluate.evaluate_checkpoint import load_checkpoint
from qpruner_core.loading import load_compressed
from qpruner_core.models import inspect_model, load_tokenizer
from qpruner_core.models.checkpoint import read_checkpoint
from qpruner_core.models.model_config import read_config
from qpruner_core.source_policy import SourcePolicy
from tests.core.small_models import small_config, small_model
from tests.tiny_model import build_tokenizer

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
JSON_FILES = (
    "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "generation_config.json", "vocab.json", "chat_template.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of an untrained model of a family, made once."""

    @cache
    def make(model_type: str) -> Path:
        directory = tmp_path_factory.mktemp(model_type) / "m"
        build_tokenizer(directory)
        small_model(model_type, dtype=torch.bfloat16).save_pretrained(directory)
        return directory

    return make


@pytest.fixture
def model(whole_models: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of an untrained Llama that a test may break."""
    return Path(shutil.copytree(whole_models("llama"), tmp_path / "m"))


@contextmanager
def little_time_and_memory() -> Iterator[None]:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 200 * 2**20
    assert time.process_time() - started < 10


def refused(model: Path, *, match: str = "") -> None:
    """Every way to a model refuses it by an error of ours, and soon."""
    for use in (lambda: inspect_model(str(model), SourcePolicy()), lambda: load_checkpoint(model)):
        with little_time_and_memory(), pytest.raises(QPrunerError, match=match) as caught:
            use()
        assert caught.value.field == "model"
        assert caught.value.remedy
        str(caught.value).encode()


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _longrope(factors: list[float]) -> dict[str, Any]:
    return {
        "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": factors,
        "original_max_position_embeddings": 32,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("llama", {"head_dim": 10**9}),
        ("llama", {"vocab_size": 10**12}),
        ("llama", {"hidden_size": 10**9, "head_dim": 8}),
        ("llama", {"hidden_size": 10**300}),
        ("llama", {"num_hidden_layers": 1000}),
        ("llama", {"num_hidden_layers": -3}),
        ("llama", {"head_dim": -8}),
        ("llama", {"max_position_embeddings": 0}),
        ("llama", {"layer_types": ["full_attention"] * 10**5}),
        ("llama", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 10**5}}),
        ("llama", {"per_layer_config": [1, 2]}),
        ("llama", {"per_layer_config": {"0": {"intermediate_size": 10**9}}}),
        ("llama", {"dtype": "no such type"}),
        ("llama", {"model_type": "\ud800"}),
        ("llama", {"transformers_weights": "other.safetensors"}),
        ("gpt2", {"n_positions": 10**9}),
        ("opt", {"max_position_embeddings": 10**10}),
        ("gpt_neox", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1e9}}),
        ("phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1e9}}),
        ("qwen3_moe", {"num_local_experts": 10**9}),
        ("qwen3_moe", {"num_experts_per_tok": 10**9}),
        # Each of these gave logits without an error, most of them wrong ones
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 0}}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": -1e4}}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0.0}}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": -2.0}}),
        ("llama", {"rope_parameters": _longrope([1.0])}),
        ("llama", {"rope_parameters": _longrope([0.0] * 4)}),
        ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 0}}}),
        ("llama", {"rope_parameters": {"rope_type": "bent", "rope_theta": 1e4, "factor": 2.0}}),
        ("llama", {"rms_norm_eps": -1.0}),
        ("gpt2", {"layer_norm_epsilon": -1.0}),
        ("mistral", {"sliding_window": 0}),
        ("gemma2", {"attn_logit_softcapping": 0.0}),
        ("granite", {"logits_scaling": 0.0}),
        ("opt", {"dropout": 2.0}),  # found out by training only
    ],
)
def test_numbers_of_no_model_are_refused_before_anything_is_made_of_them(
    model_type: str, changes: dict[str, Any], whole_models: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(whole_models(model_type), tmp_path / "m"))
    change(model / "config.json", **changes)
    refused(model)


def test_a_quantized_checkpoint_is_measured_against_its_weights_too(model: Path) -> None:
    quantization = {"quant_method": "qpruner", "bits": {}, "double_quant": False}
    change(model / "config.json", head_dim=10**9, quantization_config=quantization)
    with little_time_and_memory(), pytest.raises(CorruptModelError, match="parameters"):
        load_compressed(model)


def test_what_a_model_reads_far_ahead_costs_nothing(model: Path) -> None:
    change(model / "config.json", max_position_embeddings=10**12, attn_implementation="org/kernel")
    with little_time_and_memory():
        assert inspect_model(str(model), SourcePolicy()).config.max_position_embeddings == 10**12


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("content", ['{"a":', "", "[1]", '{"a": NaN}', "\x00", '{"\\ud800": 1}'])
def test_a_broken_json_file_is_named(model: Path, name: str, content: str) -> None:
    (model / name).write_text(content)
    if name == "tokenizer.json":
        refused(model, match="tokenizer")
    else:
        refused(model, match=name)


@pytest.mark.parametrize("name", [*JSON_FILES, WEIGHTS, INDEX, "merges.txt", "chat_template.jinja", "tokenizer.model"])
def test_a_model_file_that_is_a_pipe_a_directory_a_device_or_a_broken_link_is_named(model: Path, name: str) -> None:
    makers: list[Callable[[Path], object]] = [
        os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to(model / "none"),
    ]  # fmt: skip
    for make in makers:
        (model / name).unlink(missing_ok=True)
        make(model / name)
        refused(model, match=name)
        (model / name).rmdir() if make is Path.mkdir else (model / name).unlink()


def test_a_key_that_is_twice_is_refused_in_the_config_but_not_in_what_only_transformers_reads(
    model: Path,
) -> None:
    (model / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "X", "tokenizer_class": "PreTrainedTokenizerFast"}'
    )
    inspect_model(str(model), SourcePolicy())
    (model / "config.json").write_text((model / "config.json").read_text().replace("{", '{"model_type": "gpt2",', 1))
    refused(model, match="'model_type' twice")


def test_a_pipe_among_the_templates_is_not_waited_on(model: Path) -> None:
    (model / "additional_chat_templates").mkdir()
    os.mkfifo(model / "additional_chat_templates" / "tool.jinja")
    refused(model, match="tool.jinja")


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/tool.jinja", "merges.txt"])
def test_a_tokenizer_file_of_a_size_that_none_has_is_refused_unread(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    with (model / name).open("wb") as file:
        file.truncate(2**29)  # takes no space on the disk
    refused(model, match=f"{Path(name).name} .* {2**29} bytes")


def test_an_empty_vocabulary_is_refused(model: Path) -> None:
    values = json.loads((model / "tokenizer.json").read_text())
    values["model"] |= {"vocab": {}, "merges": []}
    (model / "tokenizer.json").write_text(json.dumps(values))
    refused(model, match="vocabulary")
    with pytest.raises(CorruptModelError, match="vocabulary"):
        load_tokenizer(model)


def header(entries: str, data: int = 0) -> bytes:
    return len(entries).to_bytes(8, "little") + entries.encode() + bytes(data)


def entry(shape: str, start: int, end: int, dtype: str = "BF16") -> str:
    return f'{{"dtype": "{dtype}", "shape": {shape}, "data_offsets": [{start}, {end}]}}'


@pytest.mark.parametrize(
    "content",
    [
        header(f'{{"a": {entry("[4]", 0, 8)}, "b": {entry("[4]", 4, 12)}}}', 12),
        header(f'{{"a": {entry("[4]", 0, 8)}, "b": {entry("[4]", 12, 20)}}}', 20),
        header(f'{{"a": {entry("[4]", 4, 12)}}}', 12),
        header(f'{{"a": {entry("[-2, -2]", 0, 8)}}}', 8),
        header(f'{{"a": {entry("[4.0]", 0, 8)}}}', 8),
        header(f'{{"a": {entry("[true]", 0, 2)}}}', 2),
        header(f'{{"a": {entry("[4]", 0, 8)}, "a": {entry("[4]", 0, 8)}}}', 8),
        header(f'{{"a": {entry("[4]", 0, 8, "Q4")}}}', 8),
        header(f'{{"a": {entry(str([1] * 1000), 0, 2)}}}', 2),
        header(f'{{"a": {entry("[4]", 0, 10**30)}}}', 8),
        header('{"a": ' + "[" * 10**5),
        header("[]"),
        header("{}"),
        (95 * 10**6).to_bytes(8, "little") + b'{"a": 1}',
    ],
)
def test_a_header_whose_tensors_are_not_in_their_places_is_refused(content: bytes, model: Path) -> None:
    (model / WEIGHTS).write_bytes(content)
    refused(model)


def test_a_header_larger_than_any_is_refused_by_its_length(model: Path) -> None:
    with (model / WEIGHTS).open("wb") as stream:
        stream.write((95 * 10**6).to_bytes(8, "little"))
        stream.truncate(95 * 10**6 + 8)
    refused(model, match="header")


def test_a_tensor_in_two_shards_is_refused(model: Path) -> None:
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"model.norm.weight": tensors["model.norm.weight"]}, model / name)
    (model / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "a.safetensors", "x": "b.safetensors"}}))
    with pytest.raises(CorruptModelError, match="another shard"):
        read_checkpoint(model)


def test_a_single_file_is_read_where_an_index_lies_beside_it(model: Path) -> None:
    (model / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": "absent.safetensors"}}))
    whole = read_checkpoint(model)
    assert whole.files == (WEIGHTS,)
    assert inspect_model(str(model), SourcePolicy()).tensors == whole.tensors
    load_checkpoint(model)


def test_a_config_says_nothing_of_the_code_that_computes(tmp_path: Path) -> None:
    values = small_config("llama").to_dict() | {"_attn_implementation": "org/kernel", "attn_implementation": "eager"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert read_config(tmp_path / "config.json")._attn_implementation != "org/kernel"
