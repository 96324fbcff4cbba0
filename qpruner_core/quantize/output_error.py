"""Error of the outputs of quantized modules relative to 16-bit ones, measured on text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from qpruner_core.fitting.fitted_linear import FittedLinear, module_seed
from qpruner_core.fitting.sampled_bank import Sample
from qpruner_core.forward.passes import OnBatch, forward_passes, hooked
from qpruner_core.models.families import linear_weight
from qpruner_core.precisions import Precision, Tensors


@dataclass
class OutputError:
    """Sums of squares over the tokens and outputs of one module: of its outputs, and of the errors of the quantized
    weight without (``quantized``) and with its adapter (``adapted``)."""

    outputs: float = 0.0
    quantized: float = 0.0
    adapted: float = 0.0

    @property
    def before(self) -> float:
        """Relative root mean square error without adapter, as a fraction of 1."""
        return math.sqrt(self.quantized / self.outputs) if self.outputs else 0.0

    @property
    def after(self) -> float:
        """The same with adapter."""
        return math.sqrt(self.adapted / self.outputs) if self.outputs else 0.0


def output_errors(
    model: PreTrainedModel,
    fitted: Mapping[str, FittedLinear],
    kinds: Mapping[str, Precision],
    text: torch.Tensor,
    on_batch: OnBatch,
) -> dict[str, OutputError]:
    """The error of every module of ``fitted`` (by full name, at the precision ``kinds[name]``) for its inputs in the
    16-bit ``model`` on ``text [sequences, length]``, int64.

    "Without adapter" is the weight rounded to the nearest, independent of the adapter. Inputs are rounded as the
    precision rounds them. A sample of each module's outputs is measured, the same for every call.
    """
    errors = {name: OutputError() for name in fitted}
    samples = {name: Sample.of(len(linear_weight(model.get_submodule(name))), module_seed(0, name)) for name in fitted}
    plain: dict[str, Tensors] = {}  # as stored, because rounding takes long

    def measuring(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def measure(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            rows = samples[name].rows.to(args[0].device)
            inputs, weight, kind = args[0].flatten(0, -2), linear_weight(module)[rows], kinds[name]
            if name not in plain:
                plain[name] = kind.encode(weight)
            _add(errors[name], weight, inputs, fitted[name], kind, plain[name], rows)

        return measure

    with hooked([model.get_submodule(name).register_forward_pre_hook(measuring(name)) for name in fitted]):
        forward_passes(model, text, on_batch)
    return errors


def _add(
    error: OutputError,
    weight: torch.Tensor,
    inputs: torch.Tensor,
    fitted: FittedLinear,
    kind: Precision,
    nearest: Tensors,
    rows: torch.Tensor,
) -> None:
    """``weight``, ``nearest``: only for the outputs ``rows``."""
    outputs = inputs.float() @ weight.float().T
    rounded = kind.round_input(inputs).float()
    plain = kind.decode(nearest).float()
    error.outputs += outputs.square().sum().item()
    error.quantized += (outputs - rounded @ plain.T).square().sum().item()
    adapter = (inputs.float() @ fitted.a.to(weight.device).T) @ fitted.b.to(weight.device)[rows].T
    adapted = rounded @ kind.decode(fitted.tensors)[rows].float().T + fitted.scaling * adapter
    error.adapted += (outputs - adapted).square().sum().item()
