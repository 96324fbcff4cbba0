"""Refit of the modules at the end of attention and MLP, so that the kept units take over for the removed ones.

Removing inputs R of a module with weight W and keeping K changes its output by ``W[:, R] x[R]``. The kept columns are
moved to the least-squares solution on calibration text, held near their old values by a ridge (:func:`ridge`):

    W' = W[:, K] + W[:, R] · C[R, K] · (C[K, K] + λ · diag C[K, K])⁻¹,    C = E[x xᵀ]

(the closed form of layer-wise reconstruction, as in OBC, arXiv 2208.11580, and SparseGPT, arXiv 2301.00774, for whole
columns). The model's shape is unchanged: no bias and no code is added, so a stock config still loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from qpruner_core.forward.passes import OnBatch
from qpruner_core.forward.second_moments import second_moments
from qpruner_core.models.families import Family, LayerWidths, linear_shape, linear_weight, positions
from qpruner_core.models.reshape import Shape
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.surgery import kept_entries, kept_units
from qpruner_core.resources import return_freed_memory

_LEAST_RIDGE = 1e-3
_RIDGE_PER_INPUT = 2.0
_LEAST_ALLOWANCE = 256 * 2**20
_SHARE_OF_WEIGHTS = 10


@dataclass(frozen=True)
class _Ending:
    """A module with cut inputs: its name in the new model, and its remaining inputs."""

    name: str
    linear: nn.Module
    kept: torch.Tensor

    @property
    def moments_bytes(self) -> int:
        return 4 * linear_shape(self.linear)[1] ** 2


def ridge(inputs: int, tokens: int) -> float:
    """λ, as a share of each input's mean square, for this number of kept inputs and of tokens.

    The fewer tokens there are per input, the more of a least-squares solution is what these tokens have in common by
    chance. On SmolLM2 with a fifth removed (1,056 inputs; perplexity 29.9 without a refit), λ of 0.001, 0.1 and 1 gave
    on other text of the same kind 511, 29.1 and 26.8 with 1,024 tokens, 33.7, 27.8 and 26.5 with 2,048, and 25.4, 25.3
    and 25.7 with 8,192.
    """
    return max(_LEAST_RIDGE, _RIDGE_PER_INPUT * inputs / tokens)


def refitted_weights(
    model: PreTrainedModel,
    family: Family,
    shape: Shape,
    importance: Sequence[LayerImportance],
    calibration: torch.Tensor,
    on_batch: OnBatch,
    *,
    moments: Mapping[nn.Module, torch.Tensor] | None = None,
    consume: bool = False,
) -> dict[str, torch.Tensor]:
    """Weights of cut attention outputs and MLP ends in the model that ``prune_model`` makes of the same arguments.

    Under the names of the new model, in the dtype and orientation of the old weights. Second moments are held for a few
    modules at a time, a tenth of the weights' bytes or 256 MiB, and ``calibration [sequences, length]`` is read once
    for each such part of the model. ``moments``: those of every cut module, if known. ``consume``: write the weights
    into the kept columns of ``model`` itself, which can then only be cut, and return none; otherwise copies of all of
    them are held beside the model.

    Raises:
        NotFiniteError: an activation is NaN or infinite.
    """
    endings = _endings(model, family, shape, importance)
    if moments is not None:
        return {
            f"{ending.name}.weight": _fitted(ending, moments[ending.linear], calibration.numel()) for ending in endings
        }
    weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    parts = list(_parts(endings, max(weights_bytes // _SHARE_OF_WEIGHTS, _LEAST_ALLOWANCE)))
    weights: dict[str, torch.Tensor] = {}
    # The last layers first: fitted weights change no input of the remaining ones
    for number, part in enumerate(reversed(parts)):
        measured = second_moments(
            model, [ending.linear for ending in part], calibration, _in_part(on_batch, number, len(parts))
        )
        return_freed_memory()
        for ending in part:
            # Not kept: of the largest modules, moments and system would be too much together
            fitted = _fitted(ending, measured.pop(ending.linear), calibration.numel())
            if consume:
                columns = 0 if isinstance(ending.linear, Conv1D) else 1
                weight = cast(torch.Tensor, ending.linear.weight)
                weight.data.index_copy_(columns, ending.kept.to(weight.device), fitted)
            else:
                weights[f"{ending.name}.weight"] = fitted
    return weights


def _in_part(on_batch: OnBatch, number: int, parts: int) -> OnBatch:
    return lambda done, total: on_batch(number * total + done, parts * total)


def _endings(
    model: PreTrainedModel, family: Family, shape: Shape, importance: Sequence[LayerImportance]
) -> Iterator[_Ending]:
    head_dim = family.head_dim(model.config)
    layers = zip(family.decoder_layers(model), family.widths(model.config), shape, importance, strict=True)
    position = 0
    for layer, old, new, scores in layers:
        if new is None:
            continue
        for path in family.linear_paths(layer):
            if path in (family.attention_output, family.down):
                kept = _kept(family, path, old, new, scores, head_dim)
                if len(kept) < linear_shape(layer.get_submodule(path))[1]:
                    yield _Ending(f"{family.layers}.{position}.{path}", layer.get_submodule(path), kept)
        position += 1


def _kept(
    family: Family, path: str, old: LayerWidths, new: LayerWidths, importance: LayerImportance, head_dim: int
) -> torch.Tensor:
    return kept_entries(positions(family.linears[path][1], old, head_dim), kept_units(old, new, importance))


def _parts(endings: Iterator[_Ending], allowance: int) -> Iterator[list[_Ending]]:
    part: list[_Ending] = []
    for ending in endings:
        if part and sum(each.moments_bytes for each in part) + ending.moments_bytes > allowance:
            yield part
            part = []
        part.append(ending)
    if part:
        yield part


def _fitted(ending: _Ending, moments: torch.Tensor, tokens: int) -> torch.Tensor:
    weight = linear_weight(ending.linear)
    kept = ending.kept.to(weight.device)
    removed = torch.ones(len(moments), dtype=torch.bool, device=weight.device)
    removed[kept] = False
    # In units of each input's own size: the ridge is then λ, and single precision is sufficient for the factorisation
    size = moments.diagonal().clamp(min=torch.finfo(moments.dtype).tiny).sqrt()
    lost = (weight[:, removed].to(moments.dtype) @ moments[removed][:, kept]) / size[kept]
    system = moments[kept][:, kept]
    del moments
    system.div_(size[kept].unsqueeze(0)).div_(size[kept].unsqueeze(1)).diagonal().add_(ridge(len(kept), tokens))
    torch.linalg.cholesky(system, out=system)
    change = torch.cholesky_solve(lost.T, system).T / size[kept]
    fitted = (weight[:, kept].to(change.dtype) + change).to(weight.dtype)
    return (fitted.T if isinstance(ending.linear, Conv1D) else fitted).contiguous()
