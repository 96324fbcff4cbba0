"""Training of what a format keeps exactly: scales, norms and biases, every code as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear
from transformers import PreTrainedModel

from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import (
    MixedPrecision,
    encode,
    load_mixed_model,
    read_mixed_config,
    write_mixed_model,
)
from qpruner_core.models.families import family_of
from qpruner_core.models.shards import StoredTensors
from qpruner_core.precisions import precisions
from qpruner_core.precisions.scaled import ScaledPrecision
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.training.batches import batches
from qpruner_core.training.losses import Distillation
from qpruner_core.training.scaled_linear import ScaledLinear
from qpruner_core.training.scaled_model import load_scaled_model, stored_tensors
from qpruner_core.training.training import train
from qpruner_core.training.training_state import TrainingState
from tests.core.small_models import BIASED, small_model
from tests.core.training.adapters import CPU, example

SIZES = {
    "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 2,
}  # fmt: skip
GGML = {"gate_proj": "q4_0", "up_proj": "q4_1", "down_proj": "q2_k", "q_proj": "iq4_nl", "o_proj": "q8_0"}
OURS = {"gate_proj": "nf4", "up_proj": "int8", "down_proj": "nf4"}
EXAMPLES = [example(20), example(17, first=30)]
PRECISIONS = (
    "q2_k", "q3_k", "iq4_xs", "q4_k", "q5_k", "q6_k", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "iq3_s",
    "iq2_xs", "nf4", "int8",
)  # fmt: skip


def dense_model() -> PreTrainedModel:
    model = small_model("llama", dtype=torch.bfloat16, **SIZES, **BIASED)
    for module in model.modules():  # as large as those of a trained model
        if isinstance(module, torch.nn.Linear):
            module.weight.data.div_(2)
    return model


def write(directory: Path, kinds: dict[str, str], *, double_quant: bool = True) -> Path:
    model = dense_model()
    family = family_of(model)
    names = [name for layer in range(len(model.model.layers)) for name in linear_names(model, family, layer)]
    by_module = {name: kinds.get(name.rpartition(".")[2], "bf16") for name in names}
    choice = QuantizeConfig(double_quant=double_quant)
    precision = MixedPrecision.of(by_module, choice, adapters=False)
    write_mixed_model(directory, model.config, precision, encode(model, precision), family)
    return directory


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("double_quant", [True, False])
def test_unchanged_scales_are_the_stored_bytes_and_the_gradient_is_that_of_the_weight(
    name: str, double_quant: bool
) -> None:
    kind = precisions(QuantizeConfig(double_quant=double_quant))[name]
    assert isinstance(kind, ScaledPrecision)
    generator = torch.Generator().manual_seed(0)
    tensors = kind.encode(torch.randn(8, 512, generator=generator).to(torch.bfloat16))
    module = ScaledLinear(kind, tensors, None)
    stored = module.stored()
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[key], tensors[key]) for key in tensors)
    inputs = torch.randn(5, 512, generator=generator).requires_grad_()
    gradient = torch.randn(5, 8, generator=generator)
    shares = [share.detach().clone().requires_grad_() for share in module.shares]
    weight = module.values(shares)
    assert torch.equal(weight.detach().to(torch.bfloat16), kind.decode(tensors))
    expected = torch.autograd.grad(linear(inputs, weight), [inputs, *shares], gradient)
    found = torch.autograd.grad(module(inputs), [inputs, *module.shares], gradient)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize(("kinds", "double_quant"), [(GGML, True), (OURS, True), (OURS, False)])
def test_training_lowers_the_distillation_loss_and_changes_no_code(
    kinds: dict[str, str], double_quant: bool, tmp_path: Path
) -> None:
    place = write(tmp_path / "mixed", kinds, double_quant=double_quant)
    model = load_scaled_model(place)
    settings = FinetuneConfig(steps=12, learning_rate=0.01, warmup_steps=0, schedule="constant")
    losses: list[float] = []
    state = TrainingState(model, settings, relative=True)
    teacher = Distillation(dense_model())
    train(
        model, batches(EXAMPLES, 2, seed=0, device=CPU), settings, lambda step, loss: losses.append(loss),
        distillation=teacher, state=state,
    )  # fmt: skip
    assert losses[-1] < 0.9 * losses[0]
    tensors = stored_tensors(model, place)
    with StoredTensors(place) as stored:
        before = {name: stored.get(name) for name in stored.names()}
    assert tensors.keys() == before.keys()
    changed = {name for name in before if not torch.equal(tensors[name], before[name])}
    assert any("norm" in name for name in changed)
    assert any(name.endswith(".bias") for name in changed)
    assert {"model.embed_tokens.weight", "lm_head.weight"}.isdisjoint(changed)
    kind_of = {name: kinds.get(name.rpartition(".")[2], "bf16") for name in (key.rpartition(".")[0] for key in before)}
    for name in changed:
        assert tensors[name].dtype == before[name].dtype
        assert tensors[name].shape == before[name].shape
        module, _, part = name.rpartition(".")
        if kind_of[module] == "q4_0" and part == "weight":  # packed: two bytes of scale, then sixteen of codes
            assert torch.equal(tensors[name].view(-1, 18)[:, 2:], before[name].view(-1, 18)[:, 2:])
        elif kind_of[module] == "bf16" and part == "weight":
            assert before[name].dim() == 1


def test_what_is_stored_computes_what_was_trained_but_for_the_rounding_of_scales(tmp_path: Path) -> None:
    place = write(tmp_path / "mixed", GGML)
    model = load_scaled_model(place)
    state = TrainingState(model, FinetuneConfig(), relative=True)
    for factor in state.factors:
        factor.data.add_(0.02)
    config, precision, family = read_mixed_config(place)
    write_mixed_model(tmp_path / "again", config, precision, stored_tensors(model, place), family)
    ids = torch.arange(1, 20).unsqueeze(0)
    with torch.no_grad():
        trained = model.eval()(ids).logits.float()
        again = load_mixed_model(tmp_path / "again")(ids).logits.float()
        before = load_mixed_model(place)(ids).logits.float()
    assert (again - trained).norm() < 0.02 * trained.norm()
    assert (again - trained).norm() < 0.2 * (before - trained).norm()


@pytest.mark.parametrize("stop", [1, 4])
def test_a_training_of_scales_that_goes_on_gives_the_same_bytes(stop: int, tmp_path: Path) -> None:
    place = write(tmp_path / "mixed", GGML)
    settings = FinetuneConfig(steps=6, learning_rate=0.01, warmup_steps=2)

    def run(directory: Path, stop_at: int) -> dict[str, torch.Tensor]:
        model = load_scaled_model(place)
        state = TrainingState(model, settings, relative=True)
        state.load(directory, "key")

        def on_step(step: int, loss: float) -> None:
            state.save(directory, "key")
            if step == stop_at:
                raise KeyboardInterrupt

        stream = batches(EXAMPLES, 1, seed=0, device=CPU, first=state.curves.step)
        train(model, stream, settings, on_step, state=state)
        return stored_tensors(model, place)

    expected = run(tmp_path / "undisturbed", 0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stop)
    found = run(tmp_path / "stopped", 0)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_pass_keeps_no_weight_for_the_gradient(tmp_path: Path) -> None:
    place = write(tmp_path / "mixed", GGML)
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    model = load_scaled_model(place)
    scaled = [name for name, module in model.named_modules() if isinstance(module, ScaledLinear)]
    assert len(scaled) == len(GGML) * len(model.model.layers)
    ids = torch.arange(1, 6).unsqueeze(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(ids).logits.sum()
    fixed = {parameter.data_ptr() for parameter in model.parameters()}
    weights = [tensor for tensor in kept if tensor.dim() == 2 and tensor.data_ptr() not in fixed]
    assert all(len(tensor) != 256 or tensor.shape[1] != 64 for tensor in weights)
