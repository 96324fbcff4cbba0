"""Code that came with a model never runs here, and does not travel into what users are told to trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qpruner_core.errors import CorruptModelError, UnsafeModelError
from qpruner_core.mixed.mixed_model import MixedPrecision, read_mixed_config, write_mixed_model
from qpruner_core.models import inspect_model, load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of, modeling_file
from qpruner_core.models.model_config import read_config
from qpruner_core.prune.surgery import prune_model
from qpruner_core.source_policy import SourcePolicy
from tests.core.models.families.shapes import uneven_shape
from tests.core.prune.units import random_importance
from tests.core.small_models import small_config, small_model
from tests.tiny_model import build_tokenizer


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """A pruned checkpoint of ours whose modeling file someone has changed."""
    (tmp_path / "from").mkdir()
    build_tokenizer(tmp_path / "from")
    model = small_model("llama")
    family = family_of(model)
    small = prune_model(model, family, uneven_shape(family, model.config), random_importance(model, family))
    write_model(small, family, tmp_path / "m", tokenizer_from=tmp_path / "from")
    hostile = f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n"
    (tmp_path / "m" / modeling_file(family).name).write_text(hostile)
    return tmp_path / "m"


def test_a_pruned_model_may_be_pruned_again_and_its_own_file_is_not_run(pruned: Path) -> None:
    described = inspect_model(str(pruned), SourcePolicy())

    assert described.config.model_type == "qpruner_llama"
    assert load_model(pruned).config.model_type == "qpruner_llama"
    assert not (pruned.parent / "ran").exists()


def test_an_auto_map_of_ours_without_the_base_model_is_known_from_older_checkpoints(pruned: Path) -> None:
    values = json.loads((pruned / "config.json").read_text())
    assert "AutoModel" in values["auto_map"]
    del values["auto_map"]["AutoModel"]
    (pruned / "config.json").write_text(json.dumps(values))
    assert inspect_model(str(pruned), SourcePolicy()).config.model_type == "qpruner_llama"


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["Another"]},
        {"architectures": None},
        {"auto_map": {"AutoModelForCausalLM": "evil/repo--modeling_qpruner_llama.QPrunerLlamaForCausalLM"}},
    ],
)
def test_other_classes_under_our_model_type_are_refused(pruned: Path, change: dict[str, Any]) -> None:
    values = json.loads((pruned / "config.json").read_text())
    (pruned / "config.json").write_text(json.dumps(values | change))

    with pytest.raises(UnsafeModelError):
        inspect_model(str(pruned), SourcePolicy())


def test_the_auto_map_of_a_stranger_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    settings = {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["evil/repo--tokenizer.X", None]}}
    (tmp_path / "from" / "tokenizer_config.json").write_text(json.dumps(settings))
    model = small_model("llama")
    model.config.auto_map = {"AutoModelForCausalLM": "evil/repo--model.X"}
    write_model(model, family_of(model), tmp_path / "m", tokenizer_from=tmp_path / "from")

    assert json.loads((tmp_path / "m" / "tokenizer_config.json").read_text()) == {"tokenizer_class": "X"}
    assert "auto_map" not in json.loads((tmp_path / "m" / "config.json").read_text())


def test_the_auto_map_of_a_stranger_does_not_travel_with_a_pruned_or_a_mixed_model(
    pruned: Path, tmp_path: Path
) -> None:
    model = load_model(pruned)
    family = family_of(model)
    model.config.auto_map = {"AutoModelForCausalLM": "evil/repo--model.X"}
    write_model(model, family, tmp_path / "again", tokenizer_from=pruned)
    own = {
        "AutoConfig": "modeling_qpruner_llama.QPrunerLlamaConfig",
        "AutoModel": "modeling_qpruner_llama.QPrunerLlamaModel",
        "AutoModelForCausalLM": "modeling_qpruner_llama.QPrunerLlamaForCausalLM",
    }
    assert json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"] == own
    assert (tmp_path / "again" / modeling_file(family).name).read_bytes() == modeling_file(family).read_bytes()

    stock = small_config("llama")
    stock.auto_map = {"AutoModelForCausalLM": "evil/repo--model.X"}
    precision = MixedPrecision(precisions={"model.layers.0.mlp.up_proj": "nf4"}, double_quant=False)
    write_mixed_model(tmp_path / "mixed", stock, precision, {}, family)
    assert "auto_map" not in json.loads((tmp_path / "mixed" / "config.json").read_text())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_number_of_layers_that_no_model_has_is_refused_before_a_list_of_them_is_made(
    name: str, tmp_path: Path
) -> None:
    values = small_config(name).to_dict()
    field = "n_layer" if name == "gpt2" else "num_hidden_layers"
    (tmp_path / "config.json").write_text(json.dumps(values | {field: 10**12}))

    with pytest.raises(CorruptModelError, match=field):
        read_config(tmp_path / "config.json")

    quantization = {"quant_method": "qpruner", "precisions": {}, "double_quant": False}
    (tmp_path / "config.json").write_text(json.dumps(values | {field: 10**12, "quantization_config": quantization}))
    with pytest.raises(CorruptModelError, match=field):
        read_mixed_config(tmp_path)
