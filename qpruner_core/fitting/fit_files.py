"""Modules fitted at their precisions and kept in files, so that the search tries what the quantize stage will write.

A fit depends only on the pruned model, the calibration text and the settings. It is made once per run and then mapped
into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from qpruner_core.fitting.fitted_linear import FittedLinear, UnfittedLinear, fit_linears, module_seed
from qpruner_core.fitting.kept_moments import KeptMoments, MomentsOfModules
from qpruner_core.fitting.tables import encode_table
from qpruner_core.forward.input_moments import InputMoments, input_moments
from qpruner_core.forward.input_scales import InputScales, input_scales
from qpruner_core.forward.second_moments import holds_head
from qpruner_core.mixed.groups import embedding_names, is_of_expert
from qpruner_core.models.families import linear_weight
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.precisions import Precision, Tensors
from qpruner_core.stage import StageContext
from qpruner_core.targets.base import WITHOUT_ADAPTERS

DIRECTORY = "fits"
_STORED = "stored."


class FitFiles:
    """Fitted modules of the pruned ``model`` of a run: linear modules with adapters of rank ``quantize.lora_rank``, and
    the tables of embeddings and head without adapters."""

    def __init__(self, context: StageContext, model: PreTrainedModel) -> None:
        self._context = context
        self._model = model
        self._settings = context.plan.target.quantize
        self._precisions = context.plan.target.precisions
        self._scaling = self._settings.lora_alpha / self._settings.lora_rank
        text = context.config.fitting_sequences
        parts = [context.store.key("prune"), context.config.seed, text, self._settings.model_dump(mode="json")]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        self._directory = context.store.root / DIRECTORY / digest[:16]
        self._moments = KeptMoments(self._directory / "moments", model.device)

    def moments(self, wanted: Mapping[str, Iterable[str]], *, keep: bool) -> Iterator[MomentsOfModules]:
        """As :func:`with_moments`, but for those that were kept in files; ``keep``: so are those worked out now."""

        def missing(names: Sequence[str]) -> Iterator[MomentsOfModules]:
            return with_moments(self._context, self._model, {name: wanted[name] for name in names})

        return self._moments.those_of(wanted, missing, keep=keep)

    def make(self, wanted: Iterable[tuple[str, str]], on_module: Callable[[int, int], None]) -> None:
        """Fit each (module name, precision) of ``wanted`` that has no file. ``on_module`` is called with the number
        done and in all."""
        missing: dict[str, list[str]] = {}
        for name, precision in wanted:
            if not _is_whole(self._path(name, precision)):
                missing.setdefault(name, []).append(precision)
        if not missing:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        scales = scales_of(self._context, self._model) if self._settings.rounding == "nearest" else {}
        done = 0
        for names, moments in self.moments(missing, keep=False):
            each = [(name, precision) for name in names for precision in missing[name]]
            for (name, precision), fitted in zip(
                each, fit(self._context, self._model, each, scales, moments), strict=True
            ):
                self._write(name, precision, fitted)
            done += len(names)
            on_module(done, len(missing))

    def read(self, name: str, precision: str) -> FittedLinear:
        """The existing fit of the module ``name`` at ``precision``; its tensors are mapped from the file."""
        tensors = load_file(self._path(name, precision), device=str(self._model.device))
        stored = {key.removeprefix(_STORED): value for key, value in tensors.items() if key.startswith(_STORED)}
        return FittedLinear(stored, tensors["a"].cpu(), tensors["b"].cpu(), self._scaling)

    def value(self, name: str, weight: torch.Tensor, precision: str) -> torch.Tensor:
        """Effective weight of module and adapter together, in the dtype of ``weight``; see :class:`PrecisionBank`."""
        return self.read(name, precision).weight(self._precisions[precision]).to(weight.dtype)

    def quantized(self, name: str, weight: torch.Tensor, precision: str) -> torch.Tensor:
        """Effective weight of the module without its adapter, in the dtype of ``weight``."""
        return self._precisions[precision].decode(self.read(name, precision).tensors).to(weight.dtype)

    def _write(self, name: str, precision: str, fitted: FittedLinear) -> None:
        tensors = {_STORED + key: value for key, value in fitted.tensors.items()}
        _save(tensors | {"a": fitted.a, "b": fitted.b}, self._path(name, precision))

    def _path(self, name: str, precision: str) -> Path:
        return self._directory / f"{name}.{precision}.safetensors"


def _save(tensors: Tensors, path: Path) -> None:
    """Save atomically; processes that write the same file at the same time have separate partial files."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)


def _is_whole(path: Path) -> bool:
    """Whether a complete fit file exists; it may be cut off by a power loss."""
    try:
        with safe_open(path, framework="pt") as file:
            return bool(file.keys())
    except (OSError, SafetensorError):
        return False


def fit(
    context: StageContext,
    model: PreTrainedModel,
    each: Sequence[tuple[str, str]],
    scales: InputScales,
    moments: InputMoments | None,
    *,
    rank: int | None = None,
    weight_of: Callable[[str], torch.Tensor] | None = None,
    adapters: bool = True,
) -> list[FittedLinear]:
    """Fit modules of ``model`` that share their inputs, ``each`` (name, precision), with the settings of the run.

    ``scales``: used without ``moments``, which include them. ``weight_of``: weight ``[out, in]`` of a module by name,
    to fit only part of it. Without ``adapters``, adapters start at zero, as do those of experts.
    """
    target = context.plan.target
    adapters = adapters and not is_of_expert(each[0][0], context.plan.family)
    settings = target.quantize if adapters else target.quantize.model_copy(update=WITHOUT_ADAPTERS)
    if model.get_submodule(each[0][0]) in (model.get_input_embeddings(), model.get_output_embeddings()):
        found = [linear_weight(model.get_submodule(name)) if weight_of is None else weight_of(name) for name, _ in each]
        kinds = [target.precisions[precision] for _, precision in each]
        return [_fitted_table(weight, kind, moments) for weight, kind in zip(found, kinds, strict=True)]
    linears = [
        UnfittedLinear(
            linear_weight(model.get_submodule(name)) if weight_of is None else weight_of(name),
            target.precisions[precision],
            module_seed(context.config.seed, name),
        )
        for name, precision in each
    ]
    scale = scales.get(each[0][0]) if moments is None else moments.scale
    return fit_linears(linears, settings, rank=rank, input_scale=scale, moments=moments)


def _fitted_table(weight: torch.Tensor, precision: Precision, moments: InputMoments | None) -> FittedLinear:
    stored = encode_table(weight, precision, moments)
    return FittedLinear(stored, torch.zeros(0, weight.shape[1]), torch.zeros(len(weight), 0), 0.0)


def scales_of(context: StageContext, model: PreTrainedModel) -> InputScales:
    """Input scales of every linear module, if the settings need them."""
    if not context.plan.target.quantize.needs_input_scales:
        return {}
    text = context.data().calibration[: context.config.fitting_sequences]
    return input_scales(model, context.plan.family, text, lambda done, total: context.cancel.raise_if_cancelled())


def with_moments(
    context: StageContext, model: PreTrainedModel, wanted: Mapping[str, Iterable[str]]
) -> Iterator[MomentsOfModules]:
    """Module names of ``wanted`` with the moments of their inputs, if rounding uses them; modules with shared inputs
    come together. A table that a head multiplies with has the head's moments."""
    if context.plan.target.quantize.rounding == "nearest":
        yield from (([name], None) for name in wanted)
        return
    looked_up = {name for name in embedding_names(model).values() if not holds_head(model, model.get_submodule(name))}
    without = [name for name, several in wanted.items() if set(several) == {UNQUANTIZED} or name in looked_up]
    yield from (([name], None) for name in without)
    quantized = [name for name in wanted if name not in without]
    text = context.data().calibration[: context.config.fitting_sequences]
    yield from input_moments(
        model,
        context.plan.family,
        quantized,
        text,
        lambda done, total: context.cancel.raise_if_cancelled(),
        damping=context.plan.target.quantize.damping,
    )
