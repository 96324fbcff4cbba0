"""The model families, one file each: ``modeling_qpruner_<model_type>.py``.

Such a file holds the family's declaration (``FAMILY``) and the model classes, with and without the head, whose layers
may differ. It needs nothing but transformers, because a copy of it travels with every checkpoint that no stock class
can load. A new family is one new file; it is found by its name, and imported on first use.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel

from qpruner_core.errors import UnsupportedArchitectureError
from qpruner_core.models.families.family import DECI, EVERY, Cut, Family, linear_shape, linear_weight, set_linear_weight
from qpruner_core.models.families.units import Axis, LayerWidths, Unit, positions

__all__ = [
    "DECI", "EVERY", "Axis", "Cut", "Family", "LayerWidths", "Unit", "family_names", "family_of", "find_family",
    "linear_shape", "linear_weight", "modeling_file", "positions", "register_families",
    "set_linear_weight",
]  # fmt: skip

_PREFIX = "modeling_qpruner_"


def family_names() -> tuple[str, ...]:
    """The ``model_type`` of every family, in alphabetical order."""
    return tuple(sorted(path.stem.removeprefix(_PREFIX) for path in Path(__file__).parent.glob(f"{_PREFIX}*.py")))


def modeling_file(family: Family) -> Path:
    """The family's file, which travels with checkpoints whose layers differ."""
    return Path(__file__).parent / f"{_PREFIX}{family.model_type}.py"


def find_family(model_type: str) -> Family:
    """The family of a dense or pruned ``model_type``.

    Raises:
        UnsupportedArchitectureError: no family declares it.
    """
    name = model_type.removeprefix("qpruner_")
    if name not in family_names():
        raise UnsupportedArchitectureError(
            f'The architecture "{model_type}" is not supported.',
            field="model",
            remedy=f"Supported: {', '.join(family_names())}.",
        )
    return _load(name)


@cache
def _load(name: str) -> Family:
    module = importlib.import_module(f"{__name__}.{_PREFIX}{name}")
    own = [value for key, value in vars(module).items() if key.startswith("QPruner")]
    (config_class,) = [value for value in own if issubclass(value, PretrainedConfig)]
    models = [value for value in own if issubclass(value, PreTrainedModel)]
    (model_class,) = [value for value in models if issubclass(value, GenerationMixin)]
    (base_class,) = [value for value in models if value is not model_class]
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, base_class, exist_ok=True)
    AutoModelForCausalLM.register(config_class, model_class, exist_ok=True)
    return Family(
        model_type=name,
        config_class=config_class.__name__,
        model_class=model_class.__name__,
        base_class=base_class.__name__,
        **module.FAMILY,
    )


def register_families() -> None:
    """Register every pruned family with transformers' Auto classes, so that loading needs no trust in remote code."""
    for name in family_names():
        _load(name)


def family_of(model: PreTrainedModel) -> Family:
    """The family of a loaded model."""
    return find_family(model.config.model_type)
