from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_names, family_of
from qpruner_core.prune.surgery import prune_model
from tests.core.models.families.pruned_models import pruned_in_layout, some_ids
from tests.core.models.families.shapes import uneven_shape
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer, write_text_dataset

SCRIPT = """
import sys
import qpruner_core
from transformers import AutoConfig, AutoModelForCausalLM
qpruner_core.register_families()
print(type(AutoModelForCausalLM.from_pretrained(sys.argv[1])).__module__)
for name in sys.argv[2:]:
    AutoConfig.for_model(f"qpruner_{name}")
"""


LOAD = """
import sys
from pathlib import Path
from qpruner_core.models.load import load_model
print(type(load_model(Path(sys.argv[1]))).__module__)
"""


def write_pruned(directory: Path, **overrides: Any) -> None:
    model = small_model("llama", **overrides)
    family = family_of(model)
    pruned = prune_model(model, family, uneven_shape(family, model.config), random_importance(model, family))
    write_model(pruned, family, directory, tokenizer_from=directory.parent)


def test_a_fresh_process_of_ours_loads_a_pruned_checkpoint_without_trust(tmp_path: Path) -> None:
    write_pruned(tmp_path / "m")
    done = subprocess.run([sys.executable, "-c", LOAD, str(tmp_path / "m")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "qpruner_core.models.families.modeling_qpruner_llama"


@pytest.mark.parametrize("model_type", family_names())
def test_auto_model_is_the_same_model_without_its_head(model_type: str, tmp_path: Path) -> None:
    small, family = pruned_in_layout(model_type, "uneven", torch.float32)
    write_model(small, family, tmp_path / "m", tokenizer_from=tmp_path)
    base = AutoModel.from_pretrained(tmp_path / "m", dtype=torch.float32)
    assert type(base).__name__ == family.base_class
    ids = some_ids(2, 9)
    with torch.no_grad():
        torch.testing.assert_close(base(ids)[0], small.base_model(ids)[0])


def test_once_registered_every_family_loads_by_the_auto_classes_without_trust_in_remote_code(tmp_path: Path) -> None:
    write_pruned(tmp_path / "m")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "m"), *family_names()], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "qpruner_core.models.families.modeling_qpruner_llama"


def test_the_command_line_measures_a_pruned_checkpoint_in_a_fresh_process(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path / "from")
    text = write_text_dataset(tmp_path / "words.txt", max_bytes=2_000)
    write_pruned(tmp_path / "from" / "m", vocab_size=len(tokenizer))
    done = subprocess.run(
        [sys.executable, "-m", "qpruner_core", "evaluate", str(tmp_path / "from" / "m"), "--text", str(text),
         "--sequence-length", "32", "--max-tokens", "64", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["perplexity"] > 1
