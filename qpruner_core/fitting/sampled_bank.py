"""Every group at every precision on a sample of its outputs: the cost of a precision for a fraction of the fits.

Outputs of a linear module are rounded independently, so a sampled output is rounded exactly as in the whole module. The
other outputs have similar errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from qpruner_core.fitting.fit_files import fit, scales_of, with_moments
from qpruner_core.fitting.fitted_linear import module_seed
from qpruner_core.fitting.kept_moments import MomentsOfModules
from qpruner_core.mixed.groups import PrecisionGroup
from qpruner_core.models.families import linear_weight
from qpruner_core.precisions import Precision
from qpruner_core.stage import StageContext

SHARE = 8
"""One in this many outputs of a module is sampled; small modules have a larger share."""
_LEAST = 64
_MULTIPLE = 32


@dataclass(frozen=True)
class Sample:
    """Sampled outputs of a module: ``rows`` of its weight, ascending int64 ``[n]``, and the weight of each row's
    squared error in the total, float32 ``[n]``."""

    rows: torch.Tensor
    counts: torch.Tensor

    @classmethod
    def of(cls, outputs: int, seed: int, among: torch.Tensor | None = None) -> Sample:
        """A random sample of about an eighth of ``outputs``, and all of ``among``, each of which counts once."""
        taken = torch.empty(0, dtype=torch.int64) if among is None else among.unique()
        others = torch.ones(outputs, dtype=torch.bool).index_fill_(0, taken, value=False).nonzero().squeeze(1)
        count = sampled(len(others))
        chosen = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:count]]
        counts = torch.ones(outputs).index_fill_(0, chosen, len(others) / max(count, 1))
        rows = torch.cat([taken, chosen]).sort().values
        return cls(rows, counts[rows])


def sampled(outputs: int) -> int:
    """How many of ``outputs`` are sampled."""
    return min(max(_LEAST, -(-outputs // (SHARE * _MULTIPLE)) * _MULTIPLE), outputs)


class SampledBank:
    """Sampled outputs of each group's modules at each precision; the sampled form of :class:`PrecisionBank`.

    ``values``: the float or bfloat16 weight ``[sampled rows, in]`` of a module at a precision, by both names.
    """

    def __init__(
        self,
        groups: Sequence[PrecisionGroup],
        *,
        kinds: Mapping[str, Precision],
        samples: Mapping[str, Sample],
        values: Mapping[tuple[str, str], torch.Tensor],
    ) -> None:
        self.groups = groups
        self._kinds = kinds
        self._samples = samples
        self._values = values

    def sample(self, index: int, number: int) -> Sample | None:
        """The sampled outputs of module ``number`` of group ``index``."""
        return self._samples[self.groups[index].modules[number]]

    def values(self, index: int, option: str) -> list[torch.Tensor]:
        """Sampled rows of the effective weights of the modules of group ``index`` at ``option``, in order."""
        group = self.groups[index]
        return [self._values[pair] for pair in zip(group.modules, group.options[option], strict=True)]

    def kind(self, index: int, number: int, option: str) -> Precision:
        """The precision of module ``number`` of group ``index`` at ``option``."""
        return self._kinds[self.groups[index].options[option][number]]


def sampled_bank(
    context: StageContext,
    model: PreTrainedModel,
    groups: Sequence[PrecisionGroup],
    tokens: torch.Tensor,
    on_progress: Callable[[float], None],
    moments_of: Callable[[Mapping[str, Iterable[str]]], Iterator[MomentsOfModules]] | None = None,
) -> SampledBank:
    """The bank of the unquantized ``model`` with its sampled outputs rounded by the settings of the run, without
    adapters.

    Of embeddings and a head it also has the rows of ``tokens``. ``on_progress`` receives the finished share.
    ``moments_of`` takes the place of :func:`with_moments`.
    """
    samples = _samples(context, model, groups, tokens)
    wanted = {
        name: list(dict.fromkeys(each[number] for each in group.options.values()))
        for group in groups
        for number, name in enumerate(group.modules)
    }
    values: dict[tuple[str, str], torch.Tensor] = {}
    total = sum(map(len, wanted.values()))
    kinds = context.plan.target.precisions

    def rows_of(name: str) -> torch.Tensor:
        weight = linear_weight(model.get_submodule(name))
        return weight[samples[name].rows.to(weight.device)]

    scales = scales_of(context, model) if context.plan.target.quantize.rounding == "nearest" else {}
    found = with_moments(context, model, wanted) if moments_of is None else moments_of(wanted)
    for names, moments in found:
        each = [(name, kind) for name in names for kind in wanted[name]]
        fitted = fit(context, model, each, scales, moments, weight_of=rows_of, adapters=False)
        for (name, kind), linear in zip(each, fitted, strict=True):
            values[name, kind] = kinds[kind].decode(linear.tensors)
        on_progress(len(values) / total)
    return SampledBank(groups, kinds=kinds, samples=samples, values=values)


def _samples(
    context: StageContext, model: PreTrainedModel, groups: Sequence[PrecisionGroup], tokens: torch.Tensor
) -> dict[str, Sample]:
    found = {}
    for group in groups:
        among = tokens.flatten().cpu() if group.layer is None else None
        for name in group.modules:
            outputs = len(linear_weight(model.get_submodule(name)))
            found[name] = Sample.of(outputs, module_seed(context.config.seed, name), among)
    return found
