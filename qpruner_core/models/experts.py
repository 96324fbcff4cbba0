"""Experts of a sparse layer, each with linear modules of its own.

transformers stacks the weights of all experts of a layer in two parameters. Pruning and files of 16-bit models use that
form. Whatever gives modules a precision uses this one: every expert then has linear modules as any other MLP, which can
be measured, rounded with the inputs that are routed to it, and stored one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

_GATE_UP, _DOWN = "gate_up_proj", "down_proj"
_PARTS = ("gate_proj", "up_proj", "down_proj")


class Expert(nn.Module):
    """One expert: linear modules with these weights ``[outputs, inputs]``, which it shares, and without biases."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.add_module(name, _linear(weight))


def _linear(weight: torch.Tensor) -> nn.Linear:
    """A linear module with that weight, without first making a random one, which takes long for many."""
    linear = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(linear)
    linear.out_features, linear.in_features = weight.shape
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.register_parameter("bias", None)
    return linear


class SeparateExperts(nn.ModuleList):
    """Takes the place of transformers' module of stacked experts, ``stacked``, and computes the same.

    Weights share the memory of the stacked ones. An expert without routed tokens does not run, see
    :func:`every_expert_running`.
    """

    def __init__(self, stacked: nn.Module, *, alike: bool = False) -> None:
        gates_ups, downs = (cast(torch.Tensor, getattr(stacked, name)).detach() for name in (_GATE_UP, _DOWN))
        count = 1 if alike else len(downs)
        experts = [
            Expert(dict(zip(_PARTS, (*gate_up.chunk(2), down), strict=True)))
            for gate_up, down in zip(gates_ups[:count], downs[:count], strict=True)
        ]
        super().__init__(experts * (len(downs) // count))
        stock = copy.copy(stacked)  # without its weights, so that the module can be stacked again
        stock._parameters = dict.fromkeys(stacked._parameters)
        self._stock = [stock]  # a list hides it from torch
        self.all_run = False

    def forward(self, hidden_states: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sum of the outputs of each token's experts, ``[tokens, hidden]``, for ``hidden_states`` of that shape.

        ``chosen``: numbers of the experts of each token, int64 ``[tokens, experts per token]``; one that does not exist
        marks a masked choice. ``weights``: their weights, of the same shape.
        """
        found = torch.zeros_like(hidden_states)
        activation = cast(Any, self._stock[0]).act_fn
        for number in range(len(self)) if self.all_run else chosen.unique().tolist():
            if number >= len(self):
                continue
            tokens, rank = torch.where(chosen == number)
            expert, states = cast(Any, self[number]), hidden_states[tokens]
            outputs = expert.down_proj(activation(expert.gate_proj(states)) * expert.up_proj(states))
            found.index_add_(0, tokens, (outputs * weights[tokens, rank, None]).to(found.dtype))
        return found

    def stacked(self) -> nn.Module:
        """transformers' own module with a copy of these weights."""
        stock = copy.copy(self._stock[0])
        parts = {name: [cast(Any, expert).get_submodule(name).weight.detach() for expert in self] for name in _PARTS}
        gates_ups = [torch.cat(pair) for pair in zip(parts["gate_proj"], parts["up_proj"], strict=True)]
        stock._parameters = {
            _GATE_UP: nn.Parameter(torch.stack(gates_ups), requires_grad=False),
            _DOWN: nn.Parameter(torch.stack(parts["down_proj"]), requires_grad=False),
        }
        return stock


def separate_experts(model: PreTrainedModel, *, alike: bool = False) -> PreTrainedModel:
    """``model`` with separate experts, changed in place. Models without experts stay as they are.

    ``alike``: all experts of a layer are one and the same module, if only their names and shapes are of interest: a
    large model has tens of thousands of linear modules.
    """
    for name, module in list(model.named_modules()):
        if {_GATE_UP, _DOWN} <= module._parameters.keys():
            model.set_submodule(name, SeparateExperts(module, alike=alike))
    return model


@contextmanager
def every_expert_running(model: nn.Module) -> Iterator[None]:
    """Context manager in which separate experts without routed tokens run on no tokens, so that hooks on their linear
    modules are called in each pass as those on all others."""
    layers = [module for module in model.modules() if isinstance(module, SeparateExperts)]
    for experts in layers:
        experts.all_run = True
    try:
        yield
    finally:
        for experts in layers:
            experts.all_run = False


def stack_experts(model: PreTrainedModel) -> PreTrainedModel:
    """``model`` with stacked experts, as transformers builds and saves it, changed in place, layer by layer."""
    for name, module in list(model.named_modules()):
        if isinstance(module, SeparateExperts):
            model.set_submodule(name, module.stacked())
    return model
