"""Small models of every family, pruned, and what goes into them."""

from __future__ import annotations

import torch
from transformers import AutoConfig, PreTrainedModel

from qpruner_core.models.families import Family, find_family
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.surgery import prune_model
from tests.core.models.families.shapes import even_shape, uneven_shape, without_layers
from tests.core.prune.units import random_importance
from tests.core.small_models import BIASED, small_model

LAYOUTS = ("uneven", "even", "fewer layers", "fewer layers, uneven, output biases")
STOCK_LAYOUTS = ("even", "fewer layers")
"""Those that a stock config can say."""


def biased_model(model_type: str, dtype: torch.dtype = torch.float64) -> tuple[PreTrainedModel, Family]:
    """The family's small model, with biases wherever its config can have them."""
    stock = AutoConfig.for_model(model_type)
    biases = {name: on for name, on in BIASED.items() if hasattr(stock, name)}
    return small_model(model_type, dtype=dtype, **biases), find_family(model_type)


def pruned(model: PreTrainedModel, family: Family, shape: Shape) -> PreTrainedModel:
    """``model`` of this shape, the kept units drawn by lot."""
    return prune_model(model, family, shape, random_importance(model, family))


def pruned_in_layout(model_type: str, layout: str, dtype: torch.dtype) -> tuple[PreTrainedModel, Family]:
    """A model pruned to one of :data:`LAYOUTS`; it has biases of our own in the last, else the family's own."""
    if layout.endswith("output biases"):
        model, family = small_model(model_type, dtype=dtype), find_family(model_type)
        shape, importance = without_layers(uneven_shape(family, model.config)), random_importance(model, family)
        biases = output_biases(prune_model(model, family, shape, importance), family)
        return prune_model(model, family, shape, importance, replacements=biases, output_bias=True), family
    model, family = biased_model(model_type, dtype)
    shapes: dict[str, Shape] = {
        "uneven": uneven_shape(family, model.config),
        "even": even_shape(family, model.config),
        "fewer layers": without_layers([*family.widths(model.config)]),
    }
    return pruned(model, family, shapes[layout]), family


def output_biases(small: PreTrainedModel, family: Family) -> dict[str, torch.Tensor]:
    """Random biases for what ends the attention and the MLP of every layer of ``small``, in its dtype."""
    generator = torch.Generator().manual_seed(4)
    return {
        f"{family.layers}.{index}.{path}.bias": torch.randn(
            small.config.hidden_size, generator=generator, dtype=torch.float64
        ).to(small.dtype)
        for index, layer in enumerate(family.decoder_layers(small))
        for path in (family.attention_output, family.down)
        if path in family.linear_paths(layer)
    }


def some_ids(*size: int) -> torch.Tensor:
    """Ids that are no special tokens."""
    return torch.randint(3, 97, size, generator=torch.Generator().manual_seed(2))
