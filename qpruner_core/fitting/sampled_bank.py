"""Every group at every precision on a sample of its outputs: what a precision costs, for a fraction of its fits.

Outputs of a linear module are rounded each for itself, whatever else the module has, so a part of them is rounded as it
will be in the whole. The rest errs alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from qpruner_core.fitting.fit import module_seed
from qpruner_core.fitting.fits import fit, scales_of, with_moments
from qpruner_core.fitting.kept_moments import MomentsOfModules
from qpruner_core.mixed.groups import PrecisionGroup
from qpruner_core.models.families import linear_weight
from qpruner_core.precisions import Precision
from qpruner_core.stage import StageContext

SHARE = 8
"""One of so many outputs of a module is in the sample, but of a small one more."""
_LEAST = 64
_MULTIPLE = 32


@dataclass(frozen=True)
class Sample:
    """Some outputs of a module: ``rows`` of its weight, rising int64 ``[n]``, and how often the square of each counts
    for all, float32 ``[n]``."""

    rows: torch.Tensor
    counts: torch.Tensor

    @classmethod
    def of(cls, outputs: int, seed: int, among: torch.Tensor | None = None) -> Sample:
        """About an eighth of ``outputs``, by chance; and all of ``among``, each of which counts once."""
        taken = torch.empty(0, dtype=torch.int64) if among is None else among.unique()
        others = torch.ones(outputs, dtype=torch.bool).index_fill_(0, taken, value=False).nonzero().squeeze(1)
        count = max(_LEAST, -(-len(others) // (SHARE * _MULTIPLE)) * _MULTIPLE)
        count = min(count, len(others))
        chosen = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:count]]
        counts = torch.ones(outputs).index_fill_(0, chosen, len(others) / max(count, 1))
        rows = torch.cat([taken, chosen]).sort().values
        return cls(rows, counts[rows])


class SampledBank:
    """Sampled outputs of each group's modules at each precision, as :class:`PrecisionBank` has all of them.

    ``values``: the float or bfloat16 weight ``[rows of the sample, in]`` of a module at a precision, by both names.
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
        """The outputs of module ``number`` of group ``index`` that are known."""
        return self._samples[self.groups[index].modules[number]]

    def values(self, index: int, option: str) -> list[torch.Tensor]:
        """The sampled rows of the weights that the modules of group ``index`` compute with at ``option``, in order."""
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
    """The bank of ``model``, unquantized, with its sampled outputs rounded as the settings of the run ask, without
    adapters; of embeddings and a head also the rows of ``tokens``. ``on_progress``: told the share that is done;
    ``moments_of``: as :func:`with_moments` does it, by default that."""
    samples = _samples(context, model, groups, tokens)
    wanted = {
        name: list(dict.fromkeys(each[number] for each in group.options.values()))
        for group in groups
        for number, name in enumerate(group.modules)
    }
    values: dict[tuple[str, str], torch.Tensor] = {}
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
        on_progress(len(values) / sum(map(len, wanted.values())))
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
