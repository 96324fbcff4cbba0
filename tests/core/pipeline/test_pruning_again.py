"""A pruned checkpoint as the model of another run."""

from __future__ import annotations

from pathlib import Path

import torch

from qpruner_core import compress, estimate
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.models import load_model
from qpruner_core.models.checkpoint_writer import write_model
from qpruner_core.models.families import family_of, modeling_file
from qpruner_core.prune.surgery import prune_model
from tests.core.models.families.shapes import uneven_shape
from tests.core.pipeline.conftest import quick_config
from tests.core.pipeline.test_families import SETTINGS
from tests.core.prune.units import random_importance
from tests.core.small_models import small_model
from tests.tiny_model import build_tokenizer, write_text_dataset


def test_a_pruned_model_is_compressed_again_and_code_beside_it_is_neither_run_nor_copied(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path / "from")
    dense = small_model("llama", dtype=torch.bfloat16, vocab_size=len(tokenizer))
    family = family_of(dense)
    model = prune_model(dense, family, uneven_shape(family, dense.config), random_importance(dense, family))
    write_model(model, family, tmp_path / "m", tokenizer_from=tmp_path / "from")
    modeling = modeling_file(family).name
    (tmp_path / "m" / modeling).write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    words = write_text_dataset(tmp_path / "words.txt", max_bytes=20_000)
    config = quick_config(tmp_path / "m", words, memory_budget=int(0.95 * loaded_bytes(model)), **SETTINGS)

    assert estimate(config).feasible
    report = compress(config, tmp_path / "out")

    parameters = sum(parameter.numel() for parameter in load_model(tmp_path / "out" / "merged").parameters())
    assert parameters == report.measurement("pruned").parameters < report.measurement("dense").parameters
    assert (tmp_path / "out" / "merged" / modeling).read_bytes() == modeling_file(family).read_bytes()
    assert not (tmp_path / "ran").exists()
