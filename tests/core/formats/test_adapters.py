"""Which formats an adapter that ships adds to a run, and what is said about running them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpruner_core.config import parse_config
from qpruner_core.errors import InvalidConfigError
from qpruner_core.formats.base import CheckpointFacts
from qpruner_core.formats.declarations import declared
from qpruner_core.formats.registry import load_format

RUN = {"model": "m", "dataset": "d", "memory_budget": 1000}


def test_the_gguf_adapter_is_there_only_after_the_recovery_that_trains_one() -> None:
    for name in ("adapter", "merge", "scales", "merge+scales", "auto"):
        config = parse_config(RUN | {"target": "gguf", "finetune": {"recovery": name}})
        assert config.export.formats == (("gguf", "gguf_adapter") if name == "adapter" else ("gguf",))
        named = parse_config(config.model_dump() | {"export": {"formats": ["merged"]}})
        assert set(named.export.formats) == {*config.export.formats, "merged"}
        assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("recovery", ["auto", "merge", "scales"])
def test_an_adapter_that_nothing_trains_is_refused_with_the_setting_that_does(recovery: str) -> None:
    values = {"target": "gguf", "finetune": {"recovery": recovery}, "export": {"formats": ["gguf_adapter"]}}
    with pytest.raises(InvalidConfigError, match=r"'gguf_adapter' needs finetune\.recovery 'adapter'"):
        parse_config(RUN | values)


@pytest.mark.parametrize("target", ["compressed-tensors", "bitsandbytes"])
def test_other_targets_have_no_gguf_adapter(target: str) -> None:
    values = {"target": target, "finetune": {"recovery": "adapter"}}
    assert "gguf_adapter" not in parse_config(RUN | values).export.formats
    with pytest.raises(InvalidConfigError, match=f"is not a format of the target {target}"):
        parse_config(RUN | values | {"export": {"formats": ["gguf_adapter"]}})


def test_what_goes_beside_a_format_has_a_row_with_it() -> None:
    assert declared("gguf_adapter").beside == declared("gguf").name


def _texts(name: str, rank: int, *, own_code: bool = False) -> dict[str, str]:
    facts = CheckpointFacts("Llama", own_code=own_code, dense_bytes=1, adapter_rank=rank)
    return {one.tool: one.text for one in load_format(name).snippets(facts)}


@settings(deadline=None)
@given(st.integers(1, 512))
def test_vllm_is_told_a_rank_that_it_takes_and_that_has_room(rank: int) -> None:
    words = _texts("compressed_tensors", rank)["vLLM"].split()
    room = int(words[words.index("--max-lora-rank") + 1])
    assert room >= rank
    assert room in (1, 8, 16, 32, 64, 128, 256, 320, 512)


def test_a_rank_too_large_for_vllm_leaves_transformers() -> None:
    assert list(_texts("compressed_tensors", 513)) == ["transformers"]


@pytest.mark.parametrize("own_code", [False, True])
def test_snippets_name_the_adapter_if_there_is_one(own_code: bool) -> None:
    for name, words in (("gguf", "--lora adapter.gguf"), ("compressed_tensors", "compressed-tensors/adapter")):
        assert all(words in text for text in _texts(name, 8, own_code=own_code).values())
        assert not any(words in text for text in _texts(name, 0, own_code=own_code).values())
    assert _texts("gguf_adapter", 8) == {"llama.cpp": "llama-server -m model.gguf --lora adapter.gguf"}
    compile(_texts("compressed_tensors", 8, own_code=own_code)["transformers"], "snippet", "exec")
