"""Models of a hub, over real HTTP from a hub on this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from app.settings import Settings
from qpruner_core.errors import (
    CorruptModelError,
    HubUnavailableError,
    InvalidConfigError,
    ModelGatedError,
    ModelNotFoundError,
    ModelTooLargeError,
    PathNotAllowedError,
    UnsafeModelError,
    UnsupportedArchitectureError,
)
from qpruner_core.models import inspect_model, load_model, load_tokenizer, resolve_model
from qpruner_core.source_policy import SourcePolicy
from tests.core.small_models import small_model
from tests.gguf_files import write_model
from tests.hub_server import HubServer, run_hub_server
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture
def hub_policy(hub_server: HubServer, tmp_path: Path) -> SourcePolicy:
    """As the service has it: no local path is allowed, the hub is."""
    return SourcePolicy(hub_endpoint=hub_server.url, allowed_roots=(), cache_dir=tmp_path / "cache")


def test_a_hub_model_is_described_without_fetching_its_weights(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path
) -> None:
    with (model_copy / "model.safetensors").open("rb") as stream:
        size = len(stream.read())
    commit = hub_server.add_model("acme/tiny", model_copy)
    description = inspect_model("acme/tiny", hub_policy)

    assert description.revision == commit
    assert description.tensors == inspect_model(str(model_copy), SourcePolicy()).tensors
    assert hub_server.sent["model.safetensors"] < size / 4
    assert not list(hub_policy.cache_dir.rglob("*.safetensors"))


def test_a_hub_model_resolves_to_the_same_model(
    hub_server: HubServer, hub_policy: SourcePolicy, tiny_llama: Path
) -> None:
    commit = hub_server.add_model("acme/tiny", tiny_llama)
    source = resolve_model(f"acme/tiny@{commit}", hub_policy)

    assert source.revision == commit
    assert source.digest == resolve_model(str(tiny_llama), SourcePolicy()).digest
    assert torch.equal(load_model(source.directory).model.norm.weight, load_model(tiny_llama).model.norm.weight)
    assert load_tokenizer(source.directory).chat_template


def test_only_what_loading_reads_is_fetched(hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path) -> None:
    for name in ("pytorch_model.bin", "modeling_own.py", "optimizer.pt", "README.md", "consolidated.safetensors"):
        (model_copy / name).write_text("not wanted")
    hub_server.add_model("acme/tiny", model_copy)
    source = resolve_model("acme/tiny", hub_policy)
    fetched = {path.name for path in source.directory.iterdir()}
    assert fetched == {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "model.safetensors",
    }  # fmt: skip


def test_a_sharded_hub_model_resolves(hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path) -> None:
    model = load_model(model_copy)
    (model_copy / "model.safetensors").unlink()
    model.save_pretrained(model_copy, max_shard_size="100KB")
    hub_server.add_model("acme/sharded", model_copy)
    assert inspect_model("acme/sharded", hub_policy).weight_bytes == 2 * model.num_parameters()
    load_model(resolve_model("acme/sharded", hub_policy).directory)

    sorted(model_copy.glob("model-*.safetensors"))[0].unlink()
    hub_server.add_model("acme/incomplete", model_copy)
    with pytest.raises(CorruptModelError, match="model-00001"):
        inspect_model("acme/incomplete", hub_policy)


def test_a_hub_gguf_model_resolves(
    hub_server: HubServer, hub_policy: SourcePolicy, tiny_llama: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    write_tiny_gguf(tiny_llama, repository / "tiny-f32.gguf")
    commit = hub_server.add_model("acme/tiny-gguf", repository)
    assert inspect_model("acme/tiny-gguf", hub_policy).revision == commit
    assert resolve_model("acme/tiny-gguf", hub_policy).revision == commit

    shutil.copy(repository / "tiny-f32.gguf", repository / "other.gguf")
    with pytest.raises(InvalidConfigError, match="2 GGUF models"):
        inspect_model("acme/tiny-gguf", hub_policy)
    load_model(resolve_model("acme/tiny-gguf:tiny-f32.gguf", hub_policy).directory)
    with pytest.raises(ModelNotFoundError):
        inspect_model("acme/tiny-gguf:missing.gguf", hub_policy)


def test_a_split_gguf_model_of_the_hub_is_fetched_as_a_whole(
    hub_server: HubServer, hub_policy: SourcePolicy, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    first = write_model(small_model("llama").float(), repository / "m.gguf", shards_of=15)
    hub_server.add_model("acme/split", repository)
    directories = {
        resolve_model(reference, hub_policy).directory
        for reference in ("acme/split", f"acme/split:{first.name}", f"acme/split:{max(repository.iterdir()).name}")
    }
    assert len(directories) == 1
    load_model(directories.pop())

    max(repository.iterdir()).unlink()
    hub_server.add_model("acme/half", repository)
    with pytest.raises(CorruptModelError, match="lacks 1 of its"):
        inspect_model("acme/half", hub_policy)


@pytest.mark.parametrize("reference", ["acme/none", "acme/tiny@no-such-branch", "-bad-/..", "a" * 200 + "/b"])
def test_what_the_hub_does_not_have_is_not_found(
    hub_server: HubServer, hub_policy: SourcePolicy, tiny_llama: Path, reference: str
) -> None:
    hub_server.add_model("acme/tiny", tiny_llama)
    with pytest.raises(ModelNotFoundError) as caught:
        inspect_model(reference, hub_policy)
    assert caught.value.field == "model"
    assert caught.value.remedy


def test_a_gated_model_is_told_as_gated_and_opens_with_the_token(
    hub_server: HubServer, hub_policy: SourcePolicy, tiny_llama: Path
) -> None:
    hub_server.add_model("acme/gated", tiny_llama, gated=True)
    for use in (inspect_model, resolve_model):
        with pytest.raises(ModelGatedError) as caught:
            use("acme/gated", hub_policy)
        assert caught.value.field == "model"
        assert "licence" in caught.value.remedy
    with_token = hub_policy.model_copy(update={"hub_token": hub_server.token})
    assert resolve_model("acme/gated", with_token).revision


def test_the_operators_own_login_is_used_on_the_command_line_and_never_by_the_service(
    hub_server: HubServer, hub_policy: SourcePolicy, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_server.add_model("acme/gated", tiny_llama, gated=True)
    monkeypatch.setenv("HF_TOKEN", hub_server.token)
    service = Settings(hub_endpoint=hub_server.url, cache_dir=hub_policy.cache_dir).source_policy
    for use in (inspect_model, resolve_model):
        with pytest.raises(ModelGatedError):
            use("acme/gated", service)
    assert not any(hub_server.authorizations)
    assert resolve_model("acme/gated", hub_policy).revision


@pytest.mark.parametrize("form", ["safetensors", "sharded", "gguf"])
def test_a_model_larger_than_the_limit_is_refused_before_its_weights_are_fetched(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path, form: str
) -> None:
    if form == "sharded":
        model = load_model(model_copy)
        (model_copy / "model.safetensors").unlink()
        model.save_pretrained(model_copy, max_shard_size="100KB")
    if form == "gguf":
        write_tiny_gguf(model_copy, model_copy / "tiny.gguf")
        (model_copy / "model.safetensors").unlink()
    hub_server.add_model("acme/large", model_copy)
    for use in (inspect_model, resolve_model):
        with pytest.raises(ModelTooLargeError) as caught:
            use("acme/large", hub_policy.model_copy(update={"max_model_bytes": 300_000}))
        assert caught.value.field == "model"
        assert "limit of this installation is 300.0 kB" in caught.value.message
    assert not [name for name in hub_server.sent if name.endswith((".safetensors", ".gguf"))]
    assert inspect_model("acme/large", hub_policy.model_copy(update={"max_model_bytes": 2_000_000})).revision


def test_a_single_file_on_the_hub_is_read_where_an_index_lies_beside_it(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path
) -> None:
    index = {"weight_map": {"model.norm.weight": "absent.safetensors"}}
    (model_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    hub_server.add_model("acme/both", model_copy)
    assert inspect_model("acme/both", hub_policy).tensors == inspect_model(str(model_copy), SourcePolicy()).tensors
    assert not (resolve_model("acme/both", hub_policy).directory / "model.safetensors.index.json").exists()


def test_a_sentencepiece_tokenizer_alone_is_refused_unfetched(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path
) -> None:
    (model_copy / "tokenizer.json").rename(model_copy / "tokenizer.model")
    hub_server.add_model("acme/pieces", model_copy)
    for reference, policy in (("acme/pieces", hub_policy), (str(model_copy), SourcePolicy())):
        with pytest.raises(ModelNotFoundError, match=r"tokenizer\.model") as caught:
            inspect_model(reference, policy)
        assert "save_pretrained" in caught.value.remedy
    assert "model.safetensors" not in hub_server.sent


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_huge_json_file_on_the_hub_is_refused_unfetched(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path, name: str
) -> None:
    with (model_copy / name).open("ab") as file:
        file.truncate(33 * 2**20)
    hub_server.add_model("acme/huge", model_copy)
    with pytest.raises(ModelTooLargeError, match=name):
        inspect_model("acme/huge", hub_policy)
    assert hub_server.sent == {}
    if name == "config.json":
        with pytest.raises(CorruptModelError, match="larger than"):
            inspect_model(str(model_copy), SourcePolicy())


def test_pickled_weights_on_the_hub_are_refused_unfetched(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path
) -> None:
    (model_copy / "model.safetensors").rename(model_copy / "pytorch_model.bin")
    hub_server.add_model("acme/pickled", model_copy)
    with pytest.raises(UnsafeModelError, match="pickled"):
        inspect_model("acme/pickled", hub_policy)
    assert hub_server.sent == {}


def test_remote_code_on_the_hub_is_refused_unfetched(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path
) -> None:
    config = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "modeling_own.OwnModel"}}
    (model_copy / "config.json").write_text(json.dumps(config))
    (model_copy / "modeling_own.py").write_text("raise SystemExit")
    hub_server.add_model("acme/code", model_copy)
    with pytest.raises(UnsafeModelError, match="its own Python code"):
        inspect_model("acme/code", hub_policy)
    assert set(hub_server.sent) == {"config.json"}


def test_an_unsupported_architecture_on_the_hub_is_refused(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path
) -> None:
    (model_copy / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    hub_server.add_model("acme/mamba", model_copy)
    with pytest.raises(UnsupportedArchitectureError):
        inspect_model("acme/mamba", hub_policy)


@pytest.mark.parametrize("kept", [400_000, 100])
def test_truncated_weights_on_the_hub_are_refused_before_they_are_fetched(
    hub_server: HubServer, hub_policy: SourcePolicy, model_copy: Path, kept: int
) -> None:
    path = model_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    hub_server.add_model("acme/short", model_copy)
    with pytest.raises(CorruptModelError) as caught:
        inspect_model("acme/short", hub_policy)
    assert caught.value.field == "model"


def test_a_failing_hub_is_told_apart_from_a_users_mistake(
    hub_server: HubServer, hub_policy: SourcePolicy, tiny_llama: Path
) -> None:
    hub_server.add_model("acme/tiny", tiny_llama)
    hub_server.failing = True
    with pytest.raises(HubUnavailableError) as caught:
        inspect_model("acme/tiny", hub_policy)
    assert caught.value.field == "model"


def test_without_a_hub_a_pinned_commit_that_was_fetched_still_resolves(tiny_llama: Path, tmp_path: Path) -> None:
    with run_hub_server() as hub:
        policy = SourcePolicy(hub_endpoint=hub.url, allowed_roots=(), cache_dir=tmp_path / "cache")
        commit = hub.add_model("acme/tiny", tiny_llama)
        hub.add_model("acme/looked-at", tiny_llama)
        fetched = resolve_model(f"acme/tiny@{commit}", policy)
        looked_at = inspect_model("acme/looked-at", policy)
    assert resolve_model(f"acme/tiny@{commit}", policy) == fetched
    assert inspect_model(f"acme/tiny@{commit}", policy).revision == commit
    for reference in ("acme/tiny", "acme/never", f"acme/looked-at@{looked_at.revision}"):
        with pytest.raises(HubUnavailableError):
            resolve_model(reference, policy)


def test_a_damaged_download_is_not_taken_for_a_whole_one(
    hub_server: HubServer, hub_policy: SourcePolicy, tiny_llama: Path
) -> None:
    hub_server.add_model("acme/tiny", tiny_llama)
    weights = resolve_model("acme/tiny", hub_policy).directory / "model.safetensors"
    weights.resolve().write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CorruptModelError):
        resolve_model("acme/tiny", hub_policy)


def test_an_installation_without_a_hub_refuses_hub_ids(tmp_path: Path) -> None:
    policy = SourcePolicy(allow_hub=False, cache_dir=tmp_path)
    with pytest.raises(PathNotAllowedError) as caught:
        inspect_model("acme/tiny", policy)
    assert caught.value.field == "model"
