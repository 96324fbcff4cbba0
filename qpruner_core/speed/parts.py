"""Parts of the stages other than passes through layers, measured on small inputs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from scipy.optimize import nnls
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from qpruner_core.allocate.config import AllocateConfig
from qpruner_core.fitting.fitted_linear import UnfittedLinear, fit_linears
from qpruner_core.forward.input_moments import InputMoments
from qpruner_core.measure.divergence import Reference
from qpruner_core.models import load_model
from qpruner_core.precisions import precisions
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.score.config import ScoreConfig
from qpruner_core.score.information import ESTIMATORS
from qpruner_core.search.scores import Scores
from qpruner_core.search.search import AllocationSearch
from qpruner_core.search.space import SearchSpace
from qpruner_core.search.trial import TrialMeasurement
from qpruner_core.speed.layers import small_llama
from qpruner_core.speed.machine_speed import FileCost, FitCost, Kernel, LogitCost, QuantizedCost, fit_products
from qpruner_core.speed.timing import on_one_thread, seconds_of
from qpruner_core.stage_store import file_sha256

GROUPS = 12
_PRODUCT = 384
_FIT_SHAPES = ((32, 32), (256, 64), (256, 512))
"""Inputs and outputs of the modules that are fitted."""
_FITTED = ("nf4", "int8")


def measure_product(device: torch.device) -> float:
    """Seconds of a multiply-add of a large product in float32."""
    matrix = torch.ones(_PRODUCT, _PRODUCT, device=device)
    return seconds_of(lambda: matrix @ matrix, device) / _PRODUCT**3


def measure_logits(device: torch.device) -> LogitCost:
    """Time of losses, on 32 positions of 4096 logits in bfloat16."""
    logits = torch.randn(32, 4096, device=device, dtype=torch.bfloat16)
    targets = torch.zeros(32, dtype=torch.long, device=device)
    reference = Reference(logits)

    def distil() -> None:
        student = logits.clone().requires_grad_()
        wanted = log_softmax(logits.float(), dim=-1)
        kl_div(log_softmax(student.float(), dim=-1), wanted, reduction="sum", log_target=True).backward()

    return LogitCost(
        loss=seconds_of(lambda: cross_entropy(logits.float(), targets), device) / logits.numel(),
        divergence=seconds_of(lambda: reference.divergence(logits), device) / logits.numel(),
        distillation=seconds_of(distil, device) / logits.numel(),
    )


def measure_quantized(device: torch.device, dtype: torch.dtype) -> dict[Kernel, QuantizedCost]:
    """Additional time of quantized modules over plain ones."""
    kinds = {"nf4": precisions(QuantizeConfig())["nf4"], "int8": precisions(QuantizeConfig())["int8"]}
    kinds["llm_int8"] = precisions(QuantizeConfig(int8="llm_int8"))["int8"]
    found: dict[Kernel, QuantizedCost] = {}
    for name, kind in kinds.items():
        extra = {}
        for size, tokens in ((64, 1), (512, 1), (512, 64)):
            weight = torch.randn(size, size, device=device, dtype=torch.bfloat16)
            inputs = torch.randn(tokens, size, device=device, dtype=dtype)
            plain = nn.Linear(size, size, bias=False, device=device, dtype=dtype)
            module = kind.build(kind.encode(weight), None).to(device)
            with torch.no_grad():
                taken = seconds_of(lambda module=module, inputs=inputs: module(inputs), device)  # type: ignore[misc]
                taken -= seconds_of(lambda plain=plain, inputs=inputs: plain(inputs), device)  # type: ignore[misc]
            extra[size, tokens] = max(taken, 0.0)
        per_weight = max(extra[512, 1] - extra[64, 1], 0.0) / (512**2 - 64**2)
        found[name] = QuantizedCost(  # type: ignore[index]
            call=max(extra[64, 1] - per_weight * 64**2, 0.0),
            per_weight=per_weight,
            per_product=max(extra[512, 64] - extra[512, 1], 0.0) / (63 * 512**2),
        )
    return found


def measure_fit(device: torch.device, product: float) -> FitCost:
    """Time of fitting modules in NF4 and INT8 on one CPU thread, without the time of its products. ``product``: seconds
    of a multiply-add on all threads."""
    if device.type != "cpu":
        return _measure_fit(device, product)
    with on_one_thread() as threads:
        return _measure_fit(device, product * threads)


def _measure_fit(device: torch.device, product: float) -> FitCost:
    kinds, settings = precisions(QuantizeConfig()), QuantizeConfig()
    rows, seconds = [], []
    for inputs, outputs in _FIT_SHAPES:
        weight = torch.randn(outputs, inputs, device=device).to(torch.bfloat16)
        states = torch.randn(2 * inputs, inputs, device=device)
        linears = [UnfittedLinear(weight, kinds[name], 0) for name in _FITTED]
        sums = states.T @ states
        taken = seconds_of(lambda linears=linears, sums=sums: _fit(linears, sums), device)  # type: ignore[misc]
        rows.append([len(_FITTED), inputs, inputs * outputs * len(_FITTED)])
        seconds.append(max(taken - product * fit_products(inputs, outputs, len(_FITTED)), taken / 4))
    weights = 1 / np.array(seconds)
    (module, column, per_weight), _ = nnls(np.array(rows) * weights[:, None], np.ones(len(rows)))
    nearest = seconds_of(
        lambda: fit_linears(linears, settings, input_scale=torch.ones(inputs, device=device)), device
    ) / (inputs * outputs * len(_FITTED))
    return FitCost(module=float(module), column=float(column), weight=float(per_weight), nearest=nearest)


def _fit(linears: list[UnfittedLinear], sums: torch.Tensor) -> None:
    moments = InputMoments(sums, 2 * len(sums))
    fit_linears(linears, QuantizeConfig(), input_scale=moments.scale, moments=moments)


def measure_files(device: torch.device) -> FileCost:
    """Time of reading and writing models and small files; a file that was just written is read from memory."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        few, many = (_seconds_to_load(root / str(layers), layers, device) for layers in (1, 5))
        adapters = _seconds_to_adapt(device)
        small, large = {"a": torch.zeros(16)}, {"a": torch.zeros(2**22, dtype=torch.int8)}
        file = seconds_of(lambda: save_file(small, root / "small"), device)
        file += seconds_of(lambda: load_file(root / "small"), device)
        write = seconds_of(lambda: (save_file(large, root / "large"), file_sha256(root / "large")), device)
        read = seconds_of(lambda: {name: one.clone() for name, one in load_file(root / "large").items()}, device)
    layer = max(many - few, 0.0) / 4
    size = large["a"].numel()
    return FileCost(
        model=max(few - layer, 0.0), layer=layer, adapters=adapters, file=file,
        read_byte=read / size, write_byte=write / size,
    )  # fmt: skip


def _seconds_to_load(directory: Path, layers: int, device: torch.device) -> float:
    small_llama(32, layers, torch.device("cpu"), torch.bfloat16).save_pretrained(directory)
    return seconds_of(lambda: load_model(directory).to(device), device)


def _seconds_to_adapt(device: torch.device) -> float:
    def adapt() -> None:
        get_peft_model(small_llama(32, 4, device, torch.bfloat16), LoraConfig(r=8, target_modules="all-linear"))

    alone = seconds_of(lambda: small_llama(32, 4, device, torch.bfloat16), device)
    return max(seconds_of(adapt, device) - alone, 0.0) / 4


def measure_token(device: torch.device, dtype: torch.dtype, layer: float) -> float:
    """Seconds of generating a token without its layers, of which each takes ``layer`` seconds."""
    model, count = small_llama(64, 2, device, dtype), 8
    ids = torch.zeros(1, 4, dtype=torch.long, device=device)
    settings = {"do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    taken = seconds_of(
        lambda: model.generate(ids, max_new_tokens=count, min_new_tokens=count, **settings),
        device,
    )
    return max(taken / count - 2 * layer, 0.0)


def measure_clusters() -> tuple[float, float]:
    """Seconds of one layer's mutual information, and of each additional value of its output."""
    cpu, settings = torch.device("cpu"), ScoreConfig()
    random = np.random.default_rng(0)
    taken = {}
    for positions, width in ((128, 16), (256, 256)):
        hidden = random.standard_normal((positions, width)).astype(np.float32)
        labels = random.integers(0, 16, positions)
        taken[positions * width] = seconds_of(
            lambda hidden=hidden, labels=labels: ESTIMATORS["kmeans"](hidden, labels, settings, 0),  # type: ignore[misc]
            cpu,
        )
    (small, at_small), (large, at_large) = taken.items()
    return at_small, max(at_large - at_small, 0.0) / (large - small)


def measure_proposal() -> float:
    """Seconds of one proposal of the search for the precisions of :data:`GROUPS` groups."""
    sensitivity = [
        {"nf4": 0.02 * (index % 7 + 1), "int8": 0.001 * (index % 5 + 1), "bf16": 0.0} for index in range(GROUPS)
    ]
    space = SearchSpace([{"nf4": 100, "int8": 200, "bf16": 400}] * GROUPS, 0, 200 * GROUPS, list(range(GROUPS)))
    scores = Scores(groups=[""] * GROUPS, mutual_information=[1.0] * GROUPS, sensitivity=sensitivity)
    settings = AllocateConfig(trials=8)
    search = AllocationSearch(space, scores, settings, seed=0)
    for index in range(settings.trials - 1):
        [proposal] = search.ask()
        search.tell(proposal, TrialMeasurement(1.0 + index, 1.0 + index, proposal.sequences, 0.0))
    return seconds_of(search._acquire, torch.device("cpu"))
