from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.nn.functional import cross_entropy, log_softmax

from bench.allocation_loss import AllocationLoss
from bench.estimator_error import EstimatorError, Mixture, cases, estimator_errors
from bench.information_report import Limits, Report, page
from bench.layer_order import ALONE, DEPTH, SPARED, compare_orders, measure_effects
from bench.report import this_machine
from qpruner_core.models.families import family_of, linear_weight, set_linear_weight
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from tests.core.small_models import small_model

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


def test_the_loss_of_an_allocation_is_that_of_a_model_quantized_by_hand(tmp_path: Path) -> None:
    model = small_model("llama", dtype=torch.float32)
    family, by_hand = family_of(model), copy.deepcopy(model)
    nf4 = precisions(QuantizeConfig())[4]
    for path in family.linear_paths(family.decoder_layers(by_hand)[2]):
        linear = family.decoder_layers(by_hand)[2].get_submodule(path)
        set_linear_weight(linear, nf4.decode(nf4.encode(linear_weight(linear).bfloat16())).float())
    with torch.no_grad():
        before, after = (log_softmax(each(WINDOWS).logits, dim=-1) for each in (model, by_hand))
    divergence = (before.exp() * (before - after)).sum(dim=-1).mean()
    loss = AllocationLoss(model, family, WINDOWS, tmp_path / "losses.jsonl")
    assert loss([16] * 5).divergence == 0
    found = loss([16, 16, 4, 16, 16])
    assert found.divergence == pytest.approx(divergence.item(), rel=1e-4)
    assert found.log_perplexity == pytest.approx(cross_entropy(after[:, :-1].flatten(0, 1), WINDOWS[:, 1:].flatten()))


def test_a_loss_measured_before_is_not_measured_again_even_behind_a_line_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "losses.jsonl"
    model = small_model("llama", dtype=torch.float32)
    first = AllocationLoss(model, family_of(model), WINDOWS, file)([4] * 5)
    with file.open("a") as stream:
        stream.write('\n[[16, 4, 4, 4, 4], {"diver')
    for parameter in model.parameters():
        parameter.data.zero_()  # would give another loss
    again = AllocationLoss(model, family_of(model), WINDOWS, file)
    assert again([4] * 5) == first
    assert again([16, 4, 4, 4, 4]) != first
    assert len(AllocationLoss(model, family_of(model), WINDOWS, file)._known) == 2


def test_every_figure_is_on_the_page(tmp_path: Path) -> None:
    model = small_model("llama", dtype=torch.float32)
    loss = AllocationLoss(model, family_of(model), WINDOWS, tmp_path / "losses.jsonl")
    effects = measure_effects(loss, lambda done, total: None)
    scores = {name: [0.1, 0.4, 0.2, 0.5, 0.3] for name in ESTIMATORS}
    orders = {order.name: order for order in compare_orders(effects, loss, scores, scores)}
    assert orders[ALONE].alone == pytest.approx(1)
    assert orders[SPARED].spared == pytest.approx(1)
    assert orders[DEPTH].half == loss([4, 4, 4, 16, 16])
    assert orders["knn"].depth == pytest.approx(0.5)
    assert orders["knn"].half == loss([4, 16, 4, 16, 4])
    limits = Limits(
        ratio=0.2, tokens=48, seeds=2, calibration_text="c", calibration_sequences=1, calibration_length=8,
        evaluated_text="e",
    )  # fmt: skip
    error = EstimatorError(case="a case", estimator="knn", samples=64, known=0.5, bias=-0.125, deviation=0.0625)
    errors = [error.model_copy(update={"estimator": name}) for name in ESTIMATORS]
    report = Report(
        model="m", limits=limits, machine=this_machine(), settings=ScoreConfig(), errors=errors, effects=effects,
        orders=list(orders.values()),
    )  # fmt: skip
    text = page(Report.model_validate_json(report.model_dump_json()))
    assert "| a case | 0.500 | 64 | -0.125 ± 0.062 | -0.125 ± 0.062 | -0.125 ± 0.062 |" in text
    assert f"| {orders['knn'].half.perplexity:.2f} | {orders['knn'].half.divergence:.4f} |" in text
    assert f"| 3 | {effects.of_low()[3]:.4f} | {effects.of_high()[3]:+.4f} | 0.500 | 0.500 | 0.500 |" in text


def test_errors_are_of_every_estimator_on_every_case_and_size() -> None:
    told: list[EstimatorError] = []
    few = [case for case in cases() if len(case.scales) == 2]
    rows = estimator_errors(few, ScoreConfig(clusters=8), (64,), 2, told.append)
    assert told == rows
    assert len({(row.case, row.estimator) for row in rows}) == len(rows) == len(few) * len(ESTIMATORS)
    apart = {row.estimator: row for row in rows if row.case == "4 labels, 2 dimensions"}
    assert all(abs(row.bias) < 0.3 and 0 < row.deviation < 0.3 for row in apart.values())
