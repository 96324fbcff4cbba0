"""Code that came with a model never runs here, and does not travel into what users are told to trust."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qpruner_core.errors import CorruptModelError, UnsafeModelError
from qpruner_core.models import inspect_model, load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of, modeling_file
from qpruner_core.models.model_config import read_config
from qpruner_core.prune.surgery import prune_model
from qpruner_core.source_policy import SourcePolicy
from tests.core.models.families.shapes import uneven_shape
from tests.core.prune.units import random_importance
from tests.core.small_models import small_config, small_model


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """A pruned checkpoint of ours whose modeling file someone has changed."""
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "tokenizer.json").write_text("{}")
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


def test_a_class_of_another_name_under_our_model_type_is_refused(pruned: Path) -> None:
    values = json.loads((pruned / "config.json").read_text())
    (pruned / "config.json").write_text(json.dumps(values | {"architectures": ["Another"]}))

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


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_number_of_layers_that_no_model_has_is_refused_before_a_list_of_them_is_made(
    name: str, tmp_path: Path
) -> None:
    values = small_config(name).to_dict()
    field = "n_layer" if name == "gpt2" else "num_hidden_layers"
    (tmp_path / "config.json").write_text(json.dumps(values | {field: 10**12}))

    with pytest.raises(CorruptModelError, match=field):
        read_config(tmp_path / "config.json")
