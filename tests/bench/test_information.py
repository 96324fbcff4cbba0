from __future__ import annotations

import copy
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.nn.functional import cross_entropy, log_softmax
from transformers import PreTrainedModel

from bench import information
from bench.allocation_loss import AllocationLoss
from bench.best_estimator import best_estimators
from bench.estimator_error import EstimatorError, Mixture, cases, estimator_errors
from bench.fitted_layers import FittedLayers
from bench.information_report import Limits, Report, page
from bench.layer_order import ALONE, CHANCE, DEPTH, SPARED, compare_orders, measure_effects
from bench.report import this_machine
from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.config import CompressionConfig
from qpruner_core.fitting.precision_bank import PrecisionBank
from qpruner_core.mixed.groups import precision_groups
from qpruner_core.models.families import family_of, linear_weight, set_linear_weight
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from qpruner_core.targets.registry import bind_target
from tests.core.small_models import small_model
from tests.tiny_model import build_tiny_llama

WINDOWS = torch.randint(0, 97, (2, 24), generator=torch.Generator().manual_seed(1))


def test_what_is_known_of_a_mixture_is_what_an_integral_gives() -> None:
    half = np.full(2, 0.5)
    mixture = Mixture("", np.array([[0.0], [3.0]]), np.array([2.0]), half, np.arange(2))

    def density(x: float) -> float:
        return float(norm.pdf(x, 0, 2) + norm.pdf(x, 3, 2)) / 2

    entropy = quad(lambda x: -density(x) * np.log(density(x)), -20, 25)[0]
    assert mixture.information() == pytest.approx(entropy - norm.entropy(0, 2), abs=0.005)


def test_components_of_one_label_are_one_and_independence_is_known_to_be_nothing() -> None:
    means = np.array([[-3.0], [3.0], [-3.0], [3.0]])
    scales, quarters = np.ones(1), np.full(4, 0.25)
    assert Mixture("", means, scales, quarters, np.array([0, 0, 1, 1])).information() == pytest.approx(0, abs=1e-9)
    by_side = Mixture("", means, scales, quarters, np.array([0, 1, 0, 1])).information()
    assert by_side == pytest.approx(
        Mixture("", means[:2], scales, np.full(2, 0.5), np.arange(2)).information(), abs=0.01
    )


def _fitted(model: PreTrainedModel, key: str = "") -> FittedLayers:
    """``model`` as if fitting gave each weight with its rows in another order."""
    settings = AllocateConfig(granularity="layer", embeddings=False, precisions=("nf4", "bf16"))
    target = bind_target("bitsandbytes", QuantizeConfig(), settings)
    bank = PrecisionBank(
        model, precision_groups(model, family_of(model), target), kinds=target.precisions, capacity=2**30,
        value=lambda name, weight, precision: weight.roll(4, dims=0),
    )  # fmt: skip
    return FittedLayers(CompressionConfig(model="m", dataset="d", memory_budget=1), model, bank, key)


def test_the_loss_of_an_allocation_is_that_of_a_model_with_fitted_weights_put_in_by_hand(tmp_path: Path) -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    family, by_hand = family_of(model), copy.deepcopy(model)
    for path in family.linear_paths(family.decoder_layers(by_hand)[2]):
        linear = family.decoder_layers(by_hand)[2].get_submodule(path)
        set_linear_weight(linear, linear_weight(linear).roll(4, dims=0))
    with torch.no_grad():
        before, after = (log_softmax(each(WINDOWS).logits.float(), dim=-1) for each in (model, by_hand))
    divergence = (before.exp() * (before - after)).sum(dim=-1).mean()
    loss = AllocationLoss(_fitted(model), WINDOWS, tmp_path)
    found = loss(["bf16", "bf16", "nf4", "bf16", "bf16"])
    assert found.divergence == pytest.approx(divergence.item(), rel=1e-4)
    assert found.log_perplexity == pytest.approx(cross_entropy(after[:, :-1].flatten(0, 1), WINDOWS[:, 1:].flatten()))
    assert loss(["bf16"] * 5).divergence == pytest.approx(0, abs=1e-6)


def test_a_loss_measured_before_is_not_measured_again_even_behind_a_line_that_was_cut_off(tmp_path: Path) -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    first = AllocationLoss(_fitted(model), WINDOWS, tmp_path)(["nf4"] * 5)
    (file,) = tmp_path.iterdir()
    with file.open("a") as stream:
        stream.write('\n[["bf16", "nf4", "nf4", "nf4", "nf4"], {"diver')
    _zero(model)
    again = AllocationLoss(_fitted(model), WINDOWS, tmp_path)
    assert again(["nf4"] * 5) == first
    assert again(["bf16", "nf4", "nf4", "nf4", "nf4"]) != first
    assert len(AllocationLoss(_fitted(model), WINDOWS, tmp_path)._known) == 2


def test_losses_of_other_modules_or_windows_are_not_taken_for_ours(tmp_path: Path) -> None:
    model = small_model("llama", dtype=torch.bfloat16)
    first = AllocationLoss(_fitted(model, "first"), WINDOWS, tmp_path)(["nf4"] * 5)
    other_windows = AllocationLoss(_fitted(model, "first"), WINDOWS.flip(1), tmp_path)(["nf4"] * 5)
    _zero(model)
    other_modules = AllocationLoss(_fitted(model, "other"), WINDOWS, tmp_path)(["nf4"] * 5)
    assert len({first.log_perplexity, other_windows.log_perplexity, other_modules.log_perplexity}) == 3


def _zero(model: PreTrainedModel) -> None:
    """Losses are others from now on."""
    for parameter in model.parameters():
        parameter.data.zero_()


def test_every_figure_is_on_the_page(tmp_path: Path) -> None:
    loss = AllocationLoss(_fitted(small_model("llama", dtype=torch.bfloat16)), WINDOWS, tmp_path)
    effects = measure_effects(loss, lambda done, total: None)
    scores = {name: [0.1, 0.4, 0.2, 0.5, 0.3] for name in ESTIMATORS}
    orders = {order.name: order for order in compare_orders(effects, loss, scores, scores)}
    assert orders[ALONE].alone == pytest.approx(1)
    assert orders[SPARED].spared == pytest.approx(1)
    assert orders[DEPTH].half == loss(["nf4", "nf4", "nf4", "bf16", "bf16"])
    assert orders["knn"].depth == pytest.approx(0.5)
    assert orders["knn"].half == loss(["nf4", "bf16", "nf4", "bf16", "nf4"])
    limits = Limits(
        ratio=0.2, tokens=48, seeds=2, calibration_text="c", calibration_sequences=1, calibration_length=8,
        evaluated_text="e",
    )  # fmt: skip
    error = EstimatorError(case="a case", estimator="knn", samples=64, known=0.5, bias=-0.125, deviation=0.0625)
    errors = [error.model_copy(update={"estimator": name}) for name in ESTIMATORS]
    report = Report(
        model="m", limits=limits, machine=this_machine(), settings=ScoreConfig(), errors=errors, effects=effects,
        orders=list(orders.values()), quantize=QuantizeConfig(),
    )  # fmt: skip
    text = page(Report.model_validate_json(report.model_dump_json()))
    assert "| a case | 0.500 | 64 | -0.125 ± 0.062 | -0.125 ± 0.062 | -0.125 ± 0.062 |" in text
    assert f"| {orders['knn'].half.perplexity:.2f} | {orders['knn'].half.divergence:.4f} |" in text
    draws = [order for name, order in orders.items() if name.startswith(CHANCE)]
    assert f"medians of {len(draws)} random orders" in text
    assert text.count(f"\n| {CHANCE} | ") == 1
    assert f"| {median(order.half.divergence for order in draws):.4f} |" in text
    assert best_estimators(report.orders) in text
    assert f"| 3 | {effects.of_low()[3]:.4f} | {effects.of_high()[3]:+.4f} | 0.500 | 0.500 | 0.500 |" in text


def test_errors_are_of_every_estimator_on_every_case_and_size() -> None:
    told: list[EstimatorError] = []
    few = [case for case in cases() if len(case.scales) == 2]
    rows = estimator_errors(few, ScoreConfig(clusters=8), (64,), 2, told.append)
    assert told == rows
    assert len({(row.case, row.estimator) for row in rows}) == len(rows) == len(few) * len(ESTIMATORS)
    apart = {row.estimator: row for row in rows if row.case == "4 labels, 2 dimensions"}
    assert all(abs(row.bias) < 0.3 and 0 < row.deviation < 0.3 for row in apart.values())


def test_scores_that_are_all_the_same_have_no_order(tmp_path: Path) -> None:
    loss = AllocationLoss(_fitted(small_model("llama", dtype=torch.bfloat16)), WINDOWS, tmp_path)
    effects = measure_effects(loss, lambda done, total: None)
    orders = {order.name: order for order in compare_orders(effects, loss, {"knn": [0.0] * 5}, {"knn": [0.0] * 5})}
    assert (orders["knn"].alone, orders["knn"].depth, orders["knn"].repeated) == (0, 0, 0)


def test_the_document_follows_from_the_figures_and_a_second_run_measures_no_loss_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(information, "cases", lambda: [case for case in cases() if len(case.scales) == 2])
    model = build_tiny_llama(tmp_path / "llama", train_steps=50, num_hidden_layers=7, dtype="bfloat16")
    document = tmp_path / "docs" / "information.md"
    arguments = [
        "--model", str(model), "--work-dir", str(tmp_path / "work"), "--output", str(document), "--ratio", "0.1",
        "--sequences", "1", "--tokens", "512", "--sizes", "64", "--seeds", "2",
    ]  # fmt: skip
    assert information.main(arguments) == 0
    said = document.read_text()
    assert "Scores are measured on 1\nsequences of 256 tokens" in said
    assert "rounding: error_feedback" in said

    document.unlink()
    assert information.main(["--render", "--output", str(document)]) == 0
    assert document.read_text() == said

    figures = Report.model_validate_json(document.with_suffix(".json").read_bytes())
    monkeypatch.delattr(AllocationLoss, "_measure")
    assert information.main(arguments) == 0
    again = Report.model_validate_json(document.with_suffix(".json").read_bytes())
    assert (again.effects, again.orders, again.errors) == (figures.effects, figures.orders, figures.errors)
