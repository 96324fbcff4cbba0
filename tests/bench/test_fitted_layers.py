from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.fitted_layers import FittedLayers, fitted_layers
from bench.paper.stages import StageRunner
from qpruner_core.adapters import WEIGHTS, adapter_name
from qpruner_core.mixed.memory_model import MemoryModel
from qpruner_core.mixed.mixed_model import load_mixed_model
from qpruner_core.models.families import family_of
from qpruner_core.quantize.stage import ADAPTER, MODEL
from qpruner_core.targets.registry import bind_target
from tests.tiny_model import build_tiny_llama, topic_paragraphs

DOCUMENTS = topic_paragraphs(60_000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_llama(
        tmp_path_factory.mktemp("tiny") / "llama", train_steps=20, num_hidden_layers=7, dtype="bfloat16"
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fitted") / "work"


@pytest.fixture(scope="module")
def fitted(model: Path, work: Path) -> FittedLayers:
    return fitted_layers(str(model), 0.1, DOCUMENTS, ("nf4", "bf16"), work)


def test_a_layer_has_the_weights_that_the_quantize_stage_writes_with_its_adapter(
    fitted: FittedLayers, work: Path
) -> None:
    settings, family = fitted.config.quantize, family_of(fitted.model)
    memory = MemoryModel(
        fitted.model.config, family, bind_target(fitted.config.target, settings, fitted.config.allocate)
    )
    uniform = fitted.config.allocate.model_copy(update={"search": "uniform"})
    lowest = fitted.config.model_copy(update={"allocate": uniform, "memory_budget": memory.total(memory.lowest)})
    stages = StageRunner(work).run("lowest", lowest, "quantize")
    written = load_mixed_model(stages.work / "quantize" / MODEL, dequantize=True)
    adapter = load_file(stages.work / "quantize" / ADAPTER / WEIGHTS)
    scaling = settings.lora_alpha / settings.lora_rank
    assert len(fitted.bank.groups) == 7
    for index, group in enumerate(fitted.bank.groups):
        for name, tried in zip(group.modules, fitted.bank.values(index, "nf4"), strict=True):
            factors = (adapter[adapter_name(name, factor)].float() for factor in "BA")
            weight = written.get_submodule(name).weight.float() + scaling * torch.linalg.multi_dot([*factors])
            assert torch.allclose(tried.float(), weight, rtol=2**-7, atol=2**-10 * float(weight.abs().max()))


def test_what_the_folder_has_is_not_made_again(fitted: FittedLayers, model: Path, work: Path) -> None:
    made = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    again = fitted_layers(str(model), 0.1, DOCUMENTS, ("nf4", "bf16"), work)
    assert again.key == fitted.key
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")} == made


@pytest.mark.parametrize(("ratio", "documents"), [(0.0, DOCUMENTS), (0.1, DOCUMENTS[40:])])
def test_modules_of_another_ratio_or_text_have_another_key(
    fitted: FittedLayers, model: Path, tmp_path: Path, ratio: float, documents: list[str]
) -> None:
    assert fitted_layers(str(model), ratio, documents, ("nf4", "bf16"), tmp_path).key != fitted.key
