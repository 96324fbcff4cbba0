"""A GGUF model is read as a whole or refused: every shard, every tensor of the file, every tensor of the model."""

from __future__ import annotations

import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from qpruner_core.errors import CorruptModelError, UnsupportedArchitectureError, UserError
from qpruner_core.models import inspect_model, load_model, resolve_model
from qpruner_core.models.gguf import read_gguf_config
from qpruner_core.models.gguf.header import read_header
from qpruner_core.source_policy import SourcePolicy
from tests.core.small_models import small_model
from tests.gguf_files import gguf_tensors, write_model

_SHARD_TENSORS = 15


@pytest.fixture(scope="module")
def source() -> PreTrainedModel:
    return small_model("llama", dtype=torch.bfloat16).float()


@pytest.fixture(scope="module")
def whole(source: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(source, tmp_path_factory.mktemp("whole") / "m.gguf")


@pytest.fixture(scope="module")
def split(source: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the same model in several files."""
    return write_model(source, tmp_path_factory.mktemp("split") / "m.gguf", shards_of=_SHARD_TENSORS).parent


def test_any_shard_or_their_directory_means_the_whole_model(split: Path, whole: Path, policy: SourcePolicy) -> None:
    shards = sorted(split.iterdir())
    assert len(shards) > 2
    reference = load_model(resolve_model(str(whole), policy).directory).state_dict()
    converted = {resolve_model(str(path), policy).directory for path in (shards[0], shards[-1], split)}
    assert len(converted) == 1
    found = load_model(converted.pop()).state_dict()
    assert found.keys() == reference.keys()
    assert all(torch.equal(found[name], reference[name]) for name in reference)


def test_links_with_the_names_of_shards_to_files_named_otherwise_are_the_model(
    split: Path, whole: Path, tmp_path: Path, policy: SourcePolicy
) -> None:
    """As the caches of hubs hold them: ``snapshots/COMMIT/NAME.gguf`` links to ``blobs/DIGEST``."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for number, shard in enumerate(sorted(split.iterdir())):
        (blobs / str(number)).hardlink_to(shard)
        (snapshot / shard.name).symlink_to(blobs / str(number))
    (tmp_path / "one.gguf").symlink_to(blobs / "one")
    (blobs / "one").hardlink_to(whole)
    (tmp_path / "any name").symlink_to(sorted(split.iterdir())[0])
    expected = inspect_model(str(split), policy).tensors
    for reference in (snapshot, *snapshot.iterdir(), tmp_path / "one.gguf", tmp_path / "any name"):
        assert inspect_model(str(reference), policy).tensors == expected, reference


def test_rotary_factors_in_two_places_are_refused(
    source: PreTrainedModel, tmp_path: Path, policy: SourcePolicy
) -> None:
    names = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
    factors = {name: np.full(4, 2.0, np.float32) for name in names}
    with pytest.raises(CorruptModelError, match="twice"):
        inspect_model(str(write_model(source, tmp_path / "m.gguf", extra=factors)), policy)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_missing_shard_is_named(split: Path, tmp_path: Path, policy: SourcePolicy, which: int) -> None:
    copy = Path(shutil.copytree(split, tmp_path / "copy"))
    missing = sorted(copy.iterdir())[which]
    missing.unlink()
    for reference in (copy, min(copy.iterdir())):
        with pytest.raises(CorruptModelError, match=missing.name):
            inspect_model(str(reference), policy)


def test_a_shard_of_another_place_or_model_is_refused(
    split: Path, source: PreTrainedModel, tmp_path: Path, policy: SourcePolicy
) -> None:
    copy = Path(shutil.copytree(split, tmp_path / "copy"))
    first, second, *_ = sorted(copy.iterdir())
    shutil.copy(first, second)
    with pytest.raises(CorruptModelError, match="its name says file 2"):
        inspect_model(str(first), policy)
    other = (
        write_model(source, tmp_path / "two" / "m.gguf", shards_of=30) if (tmp_path / "two").mkdir() is None else first
    )
    shutil.copy(sorted(other.parent.iterdir())[1], second)
    with pytest.raises(CorruptModelError, match=second.name):
        inspect_model(str(first), policy)


def test_a_shard_under_another_name_is_not_taken_for_a_model(split: Path, tmp_path: Path, policy: SourcePolicy) -> None:
    alone = shutil.copy(min(split.iterdir()), tmp_path / "model.gguf")
    with pytest.raises(CorruptModelError, match="file 1 of"):
        inspect_model(str(alone), policy)


def test_no_tensor_but_the_head_may_be_missing(source: PreTrainedModel, tmp_path: Path) -> None:
    names = [name for name in gguf_tensors(source) if name.startswith("blk.2.") or not name.startswith("blk.")]
    assert "blk.2.ffn_up.weight" in names
    for name in names:
        path = write_model(source, tmp_path / "m.gguf", without={name})
        if name == "output.weight":
            assert read_gguf_config(path).tie_word_embeddings
        else:
            with pytest.raises(CorruptModelError, match=name):
                read_gguf_config(path)
        path.unlink()


@pytest.mark.parametrize(
    "name", ["blk.5.ffn_up.weight", "blk.0.ffn_gate_inp.weight", "blk.0.attn_q.scale", "output.bias", "v.patch_embd"]
)
def test_a_surplus_tensor_is_named(name: str, source: PreTrainedModel, tmp_path: Path, policy: SourcePolicy) -> None:
    path = write_model(source, tmp_path / "m.gguf", extra={name: np.ones((40, 48), np.float32)})
    with pytest.raises(CorruptModelError, match=name):
        inspect_model(str(path), policy)


def test_a_tensor_of_another_shape_is_named(source: PreTrainedModel, tmp_path: Path, policy: SourcePolicy) -> None:
    path = write_model(source, tmp_path / "m.gguf", extra={"blk.1.ffn_up.weight": np.ones((39, 48), np.float32)})
    with pytest.raises(CorruptModelError, match=r"blk\.1\.ffn_up\.weight"):
        inspect_model(str(path), policy)


def test_the_files_head_decides_not_the_family(tmp_path: Path, policy: SourcePolicy) -> None:
    model = small_model("gemma2", dtype=torch.bfloat16, query_pre_attn_scalar=8).float()
    head = np.random.default_rng(0).standard_normal((97, 48)).astype(np.float32)
    source = resolve_model(str(write_model(model, tmp_path / "m.gguf", extra={"output.weight": head})), policy)
    found = load_model(source.directory)
    assert torch.equal(found.lm_head.weight, torch.from_numpy(head).bfloat16())
    assert not torch.equal(found.lm_head.weight, found.model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("architecture", "message", "remedy"),
    [("opt", "supported, but not as a GGUF", "safetensors"), ("mamba", "not supported as a GGUF", "llama")],
)
def test_an_architecture_that_is_not_read_says_what_to_do(
    whole: Path, tmp_path: Path, policy: SourcePolicy, architecture: str, message: str, remedy: str
) -> None:
    data = whole.read_bytes()
    old, new = (struct.pack("<Q", len(name)) + name.encode() for name in ("llama", architecture))
    start = data.index(old)
    path = tmp_path / "m.gguf"
    path.write_bytes(data[:start] + new + data[start + len(old) :] + bytes(64))
    with pytest.raises(UnsupportedArchitectureError, match=message) as caught:
        inspect_model(str(path), policy)
    assert remedy in caught.value.remedy


def test_looking_reads_no_weight(whole: Path, policy: SourcePolicy, tmp_path: Path) -> None:
    """A file whose weights were replaced by a hole looks the same."""
    header = read_header(whole)
    start = min(tensor.offset for tensor in header.tensors.values())
    path = tmp_path / "hollow.gguf"
    path.write_bytes(whole.read_bytes()[:start])
    os.truncate(path, whole.stat().st_size)
    assert inspect_model(str(path), policy).tensors == inspect_model(str(whole), policy).tensors


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _header(*entries: bytes, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(entries)) + b"".join(entries)


_HUGE = 2**62
HOSTILE = {
    "an array of five million numbers": _header(
        _string("a") + struct.pack("<IIQ", 9, 0, 5_000_000) + bytes(5_000_000)
    ),
    "an array of five million texts": _header(
        _string("a") + struct.pack("<IIQ", 9, 8, 5_000_000) + bytes(40_000_000)
    ),
    "an array without end": _header(_string("a") + struct.pack("<IIQ", 9, 4, _HUGE)),
    "an array of arrays": _header(_string("a") + struct.pack("<IIQ", 9, 9, 4) + bytes(100)),
    "a text without end": _header(struct.pack("<Q", _HUGE)),
    "keys without end": b"GGUF" + struct.pack("<IQQ", 3, 0, _HUGE),
    "tensors without end": b"GGUF" + struct.pack("<IQQ", 3, _HUGE, 0),
    "an unknown type": _header(_string("a") + struct.pack("<I", 99)),
    "a text that is none": _header(_string("a") + struct.pack("<IQ", 8, 2) + b"\xff\xfe"),
    "a tensor of too many dimensions": _header(tensors=1) + _string("t") + struct.pack("<I", 2**31) + bytes(64),
    "a tensor beyond the file": _header(tensors=1) + _string("t") + struct.pack("<IQIQ", 1, _HUGE, 0, 0) + bytes(64),
    "a tensor of no size": _header(tensors=1) + _string("t") + struct.pack("<IQIQ", 1, 0, 0, 0) + bytes(64),
    "a tensor twice": _header(tensors=2) + (_string("t") + struct.pack("<IQIQ", 1, 1, 0, 0)) * 2 + bytes(64),
    "tensors that overlap": _header(tensors=2)
    + b"".join(_string(name) + struct.pack("<IQIQ", 1, 8, 0, 0) for name in "tu")
    + bytes(128),
    "the other byte order": b"GGUF" + struct.pack(">IQQ", 3, 0, 0) + bytes(64),
    "the first version": b"GGUF" + struct.pack("<IQQ", 1, 0, 0) + bytes(64),
    "no architecture": _header() + bytes(64),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_before_anything_is_made_of_it(
    name: str, tmp_path: Path, policy: SourcePolicy
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(CorruptModelError) as caught:
        inspect_model(str(path), policy)
    assert caught.value.field == "model"


def test_a_file_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(CorruptModelError):
        read_gguf_config(tmp_path / "m.gguf")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_is_refused_or_read_but_nothing_else_happens(data: st.DataObject, whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    start = min(tensor.offset for tensor in read_header(whole).tensors.values())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, start - 1))] = data.draw(st.integers(0, 255))
    path = whole.with_name("damaged.gguf")
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), start, start // 2]))])
    with suppress(UserError):
        read_gguf_config(path)
