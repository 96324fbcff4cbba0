from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from qpruner_core import load_compressed
from qpruner_core.errors import CorruptModelError
from qpruner_core.models.checkpoint import INDEX_FILE, WEIGHT_FILE
from qpruner_core.models.shards import StoredTensors, copy_weights
from tests.model_in_memory import compress_in_memory

SHARD = 100_000


@pytest.fixture(scope="module")
def mixed(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mixed") / "mixed"
    compress_in_memory(tiny_llama, directory)
    return directory


@pytest.fixture
def sharded(mixed: Path, tmp_path: Path) -> Path:
    shutil.copytree(mixed, tmp_path / "sharded", ignore=shutil.ignore_patterns(WEIGHT_FILE))
    copy_weights(mixed, tmp_path / "sharded", SHARD)
    return tmp_path / "sharded"


def test_weights_within_the_size_stay_one_file(mixed: Path, tmp_path: Path) -> None:
    copy_weights(mixed, tmp_path, 10**9)

    assert [path.name for path in tmp_path.iterdir()] == [WEIGHT_FILE]
    assert (tmp_path / WEIGHT_FILE).read_bytes() == (mixed / WEIGHT_FILE).read_bytes()


def test_shards_keep_to_their_size_and_hold_every_tensor_once(mixed: Path, sharded: Path) -> None:
    weight_map = json.loads((sharded / INDEX_FILE).read_text())["weight_map"]
    assert len(set(weight_map.values())) > 1
    with StoredTensors(mixed) as whole, StoredTensors(sharded) as parts:
        assert set(weight_map) == whole.names() == parts.names()
        assert all(torch.equal(whole.get(name), parts.get(name)) for name in whole.names())
        for file in set(weight_map.values()):
            held = [whole.get(name) for name in weight_map if weight_map[name] == file]
            assert len(held) == 1 or sum(tensor.numel() * tensor.element_size() for tensor in held) <= SHARD


def test_files_of_the_same_names_with_other_contents_are_split_anew(mixed: Path, tmp_path: Path) -> None:
    with StoredTensors(mixed) as whole:
        sizes = {name: whole.get(name).nbytes for name in whole.names()}
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    copy_weights(mixed, source, sum(sizes.values()) // 2 + max(sizes.values()))
    split = json.loads((source / INDEX_FILE).read_text())["weight_map"]
    first, second = sorted(set(split.values()))
    smallest = min((name for name in split if split[name] == first), key=lambda name: sizes[name])
    with StoredTensors(source) as parts:
        for file in (first, second):
            names = [name for name in split if (split[name] == file) != (name == smallest)]
            save_file({name: parts.get(name) for name in names}, tmp_path / file, {"format": "pt"})
    for file in (first, second):
        shutil.move(tmp_path / file, source / file)
    split[smallest] = second
    (source / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": split}))

    copy_weights(source, target, sum(sizes.values()) // 2 + max(sizes.values()))

    told = json.loads((target / INDEX_FILE).read_text())["weight_map"]
    assert sorted(set(told.values())) == [first, second]
    for file in (first, second):
        with safe_open(target / file, framework="pt") as held:
            assert set(held.keys()) == {name for name in told if told[name] == file}


def test_a_mixed_checkpoint_of_several_files_gives_the_same_logits(mixed: Path, sharded: Path) -> None:
    ids = torch.arange(3, 20).unsqueeze(0)
    with torch.no_grad():
        expected, actual = (load_compressed(path)[0](ids).logits for path in (mixed, sharded))
    assert torch.equal(actual, expected)


def test_a_missing_shard_is_refused_by_name(sharded: Path) -> None:
    shard = sorted(set(json.loads((sharded / INDEX_FILE).read_text())["weight_map"].values()))[0]
    (sharded / shard).unlink()
    with pytest.raises(CorruptModelError, match=shard):
        load_compressed(sharded)
