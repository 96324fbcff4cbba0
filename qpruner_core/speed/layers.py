"""Time of passes through decoder layers, measured on small Llamas with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from qpruner_core.finetune.config import FinetuneConfig
from qpruner_core.models.families import find_family
from qpruner_core.prune.criteria import CRITERIA
from qpruner_core.speed.machine_speed import LayerCost, Pass, PassCost
from qpruner_core.speed.timing import seconds_of
from qpruner_core.training.batches import Batch
from qpruner_core.training.training import train

LAYERS = 2
_VOCABULARY = 64
_HIDDEN = (64, 256, 1024, 4096)
_LONGEST = 0.12
"""Seconds of the slowest pass up to which the next larger layer, sixteen times as slow, is also measured."""
_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def small_llama(hidden: int, layers: int, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A Llama of this hidden size and number of layers, computing in ``dtype``, with random weights."""
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32 if hidden < 1024 else hidden // 64,
        vocab_size=_VOCABULARY,
        max_position_embeddings=4096,
    )
    with torch.device(device):
        model: PreTrainedModel = LlamaForCausalLM(config).to(dtype)
    return model.eval()


def measure_layers(device: torch.device, dtype: torch.dtype) -> Iterator[LayerCost]:
    """Layers of ascending size, up to those that take little time here."""
    few, many = (16, 128) if device.type == "cpu" else (16, 1024)
    for hidden in _HIDDEN:
        model = small_llama(hidden, LAYERS, device, dtype)
        weights = sum(parameter.numel() for parameter in model.model.layers.parameters()) // LAYERS
        short, long = (_passes(model, torch.arange(count, device=device) % _VOCABULARY) for count in (few, many))
        yield LayerCost(
            weights=weights,
            hidden=hidden,
            passes={kind: _cost(short[kind] / LAYERS, long[kind] / LAYERS, few, many) for kind in short},
        )
        if max(long.values()) > _LONGEST:
            return


def _cost(short: float, long: float, few: int, many: int) -> PassCost:
    per_token = max(long - short, 0.0) / (many - few)
    return PassCost(call=max(short - few * per_token, 0.0), per_token=per_token)


def _passes(model: PreTrainedModel, ids: torch.Tensor) -> dict[Pass, float]:
    """Seconds of every pass of token ids ``[length]`` through all layers of ``model``."""
    device, family = model.device, find_family("llama")
    found: dict[Pass, float] = {
        "forward": seconds_of(partial(_forward, model.model, ids), device),
        "backward": seconds_of(_backward(model, ids), device),
        "gradients": seconds_of(
            lambda: CRITERIA["taylor_second"](model, family, ids.unsqueeze(0), lambda done, total: None), device
        ),
    }
    model.requires_grad_(False)
    adapted = get_peft_model(model, LoraConfig(r=8, target_modules=_LINEAR))
    found["adapted"] = seconds_of(partial(_forward, model.model, ids), device)
    settings = FinetuneConfig(steps=1, validation_sequences=0)
    positions = torch.arange(len(ids), device=device).unsqueeze(0)
    batch = Batch(ids.unsqueeze(0), positions, ids.unsqueeze(0))
    found["training"] = seconds_of(
        lambda: train(adapted.train(), repeat(batch), settings, lambda step, loss: None), device
    )
    adapted.unload()
    model.eval().requires_grad_(True)
    return found


@torch.no_grad()
def _forward(model: torch.nn.Module, ids: torch.Tensor) -> None:
    model(input_ids=ids.unsqueeze(0), use_cache=False)


def _backward(model: PreTrainedModel, ids: torch.Tensor) -> Callable[[], None]:
    """A backward pass to the inputs of the first layer, through a graph that is built once."""
    model.requires_grad_(False)
    inputs = model.get_input_embeddings()(ids.unsqueeze(0)).detach().requires_grad_()
    states = model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state
    gradient = torch.ones_like(states)
    model.requires_grad_(True)
    return lambda: states.backward(gradient, retain_graph=True)
