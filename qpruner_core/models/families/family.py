"""Declaration of an architecture: the position of its coupled units, and the config fields that follow them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from pydantic import Field
from torch import nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from qpruner_core.models.families.units import Axis, LayerWidths, Unit, positions
from qpruner_core.strict import StrictModel


@dataclass(frozen=True)
class Cut:
    """A dimension of a parameter of a decoder layer that pruning may shorten; ``parameter``: its path in the layer."""

    parameter: str
    tensor: torch.Tensor
    dim: int
    axis: Axis


EVERY = "*"
"""In the path of a linear module, in place of the number of its expert."""
_NUMBER = re.compile(r"\.\d+\.")

DECI = "DeciLMForCausalLM"
"""vLLM's own class of Llamas with MLPs of different widths. A config of ours with ``block_configs`` belongs to it."""


class Family(StrictModel):
    """A model family. All paths are relative to a decoder layer, except ``layers``.

    ``config_class``, ``model_class``, ``base_class``: class names in the family's file of the config, of the model, and
    of the model without its head, whose layers may differ. ``linears``: path -> (axis of the outputs, axis of the
    inputs), in the order of computation; precisions and adapters apply to these modules. ``*`` in a path stands for
    the number of each expert, see :mod:`qpruner_core.models.experts`; experts have no adapters.
    ``attention_output`` and ``down``: those of them at the end of the attention and the MLP. ``parameters``: path ->
    axis of dimension 0, for parameters of other modules. ``fields``: field of :class:`LayerWidths` -> field of the
    config; unnamed ones follow from the others. ``layer_lists``: config fields with one entry per layer.
    ``explicit_head_dim``: the stock code reads ``config.head_dim``, so that a stock config can have fewer heads.

    Functions for values that a config does not state directly: ``key_value_heads``: their number. ``sparse``: whether
    the layer of a config and an index has experts instead of a dense MLP. ``kept_layers``: config values if only the
    layers of these indices stay, beyond ``layer_lists``. ``unsupported``: features of the config that this package
    cannot prune.
    """

    model_type: str
    config_class: str
    model_class: str
    base_class: str
    layers: str = "model.layers"
    linears: Mapping[str, tuple[Axis, Axis]]
    attention_output: str = "self_attn.o_proj"
    down: str = "mlp.down_proj"
    parameters: Mapping[str, Axis] = Field(default_factory=dict)
    fields: Mapping[str, str] = Field(
        default_factory=lambda: {
            name: name for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size")
        }
    )
    layer_lists: tuple[str, ...] = ("layer_types",)
    explicit_head_dim: bool = True
    key_value_heads: Callable[[PretrainedConfig], int] | None = None
    sparse: Callable[[PretrainedConfig, int], bool] | None = None
    kept_layers: Callable[[PretrainedConfig, list[int]], dict[str, Any]] | None = None
    unsupported: Callable[[PretrainedConfig], str | None] | None = None

    @property
    def pruned_model_type(self) -> str:
        """The ``model_type`` of a pruned model whose layers differ."""
        return f"qpruner_{self.model_type}"

    def decoder_layers(self, model: nn.Module) -> list[nn.Module]:
        """The decoder layers of ``model``, first to last."""
        return list(model.get_submodule(self.layers).children())

    def linear_paths(self, layer: nn.Module) -> list[str]:
        """Paths of those of :attr:`linears` that ``layer`` has: a sparse layer lacks the dense MLP, and has the linear
        modules of its experts if they are separate, expert by expert."""
        return [*self.adapted_paths(layer), *self._paths_of_experts(layer)]

    def adapted_paths(self, layer: nn.Module) -> list[str]:
        """Those of :meth:`linear_paths` that adapters apply to: all but the experts'."""
        return [path for path in self.linears if EVERY not in path and _has(layer, path)]

    def _paths_of_experts(self, layer: nn.Module) -> Iterator[str]:
        declared = [path.split(EVERY) for path in self.linears if EVERY in path]
        if declared and _has(layer, f"{declared[0][0]}0{declared[0][1]}"):
            for number in range(len(cast(nn.ModuleList, layer.get_submodule(declared[0][0].removesuffix("."))))):
                yield from (f"{before}{number}{after}" for before, after in declared)

    def declared_path(self, path: str) -> str:
        """The key of :attr:`linears` of the linear module ``path`` of a layer."""
        return path if path in self.linears else _NUMBER.sub(f".{EVERY}.", path, count=1)

    @property
    def adapted(self) -> list[str]:
        """PEFT's ``target_modules``: all :attr:`linears` but those of experts, by their last name if that suffices."""
        paths = [path for path in self.linears if EVERY not in path]
        return paths if len(paths) < len(self.linears) else [path.rpartition(".")[2] for path in paths]

    def linears_of(self, layer: nn.Module) -> list[nn.Module]:
        """The linear modules of a decoder layer, in the order of :attr:`linears`."""
        return [layer.get_submodule(path) for path in self.linear_paths(layer)]

    def cuts(self, layer: nn.Module) -> list[Cut]:
        """Every dimension of every parameter of ``layer`` that units run along."""
        return list(self._cuts(layer))

    def _cuts(self, layer: nn.Module) -> Iterator[Cut]:
        for path in self.adapted_paths(layer):  # experts stay whole
            linear = layer.get_submodule(path)
            outputs, inputs = self.linears[path]
            weight = cast(torch.Tensor, linear.weight)
            out_dim = 1 if isinstance(linear, Conv1D) else 0
            for dim, axis in ((out_dim, outputs), (1 - out_dim, inputs)):
                if axis != "hidden":
                    yield Cut(f"{path}.weight", weight, dim, axis)
            if outputs != "hidden" and linear.bias is not None:
                yield Cut(f"{path}.bias", cast(torch.Tensor, linear.bias), 0, outputs)
        for path, axis in self.parameters.items():
            module, _, name = path.rpartition(".")
            if _has(layer, module) and getattr(layer.get_submodule(module), name, None) is not None:
                yield Cut(path, layer.get_parameter(path), 0, axis)

    def head_dim(self, config: PretrainedConfig) -> int:
        """Width of one attention head."""
        return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)

    def widths(self, config: PretrainedConfig) -> list[LayerWidths]:
        """The widths of every layer of a model with ``config``, dense or pruned; 0 for missing parts."""
        return [self._layer_widths(layer, index) for index, layer in enumerate(config.per_layer_config)]

    def _layer_widths(self, config: PretrainedConfig, index: int) -> LayerWidths:
        found = {name: getattr(config, field) for name, field in self.fields.items()}
        if found.get("intermediate_size") is None:
            found["intermediate_size"] = 4 * config.hidden_size
        if self.key_value_heads is not None:
            found["num_key_value_heads"] = self.key_value_heads(config)
        if self.sparse is not None:
            found["intermediate_size" if self.sparse(config, index) else "num_experts"] = 0
        return LayerWidths(**{"num_key_value_heads": found["num_attention_heads"], **found})

    def config_values(self, widths: LayerWidths) -> dict[str, int]:
        """The config fields of ``widths``, without those of missing parts."""
        values = {field: getattr(widths, name) for name, field in self.fields.items()}
        return {field: value for field, value in values.items() if value > 0}

    def unit_parameters(self, layer: nn.Module, widths: LayerWidths, head_dim: int) -> dict[Unit, int]:
        """Parameters that go with one unit of each kind of ``layer`` (of ``widths``; may be on the meta device)."""
        counts: dict[Unit, int] = {}
        for cut in self.cuts(layer):
            for unit, places in positions(cut.axis, widths, head_dim).items():
                across = cut.tensor.numel() // cut.tensor.shape[cut.dim]
                counts[unit] = counts.get(unit, 0) + across * places.shape[1]
        return counts


def linear_shape(linear: nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a linear module: plain, quantized, or GPT-2's ``Conv1D``."""
    if isinstance(linear, Conv1D):
        return int(linear.nf), int(linear.nx)
    return cast(nn.Linear, linear).out_features, cast(nn.Linear, linear).in_features


def linear_weight(linear: nn.Module) -> torch.Tensor:
    """The weight of a linear module as ``[outputs, inputs]``; of a ``Conv1D`` a transposed view."""
    weight = cast(torch.Tensor, linear.weight).detach()
    return weight.T if isinstance(linear, Conv1D) else weight


def set_linear_weight(linear: nn.Module, weight: torch.Tensor) -> None:
    """Make a linear module multiply with ``weight [outputs, inputs]``, which it shares."""
    cast(torch.Tensor, linear.weight).data = weight.T if isinstance(linear, Conv1D) else weight


def _has(layer: nn.Module, path: str) -> bool:
    try:
        layer.get_submodule(path)
    except AttributeError:
        return False
    return True
