"""Which cells there are."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.frontier.cells import LLAMA, OURS, Budget, Cell, LlamaQuantize, Ours, Rows, Setting, our_config
from bench.frontier.rivals.rows import RivalRow, claimed_rivals, other_rivals
from qpruner_core.config import parse_config
from qpruner_core.planning import estimate

COMPARED = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K")
"""Types of ``llama-quantize`` at whose bytes ours is asked for."""
TYPES = ("Q2_K", "Q3_K_M", "IQ3_S", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K")
QUICK_TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M")
_BETWEEN = (("Q2_K", "Q3_K_M"), ("Q3_K_M", "Q4_K_M"))
_ABOVE_SMALLEST = 1.03
_SWAPPED = ("Q3_K_M", "Q4_K_M")


def llama_row(kind: str) -> str:
    """The name of the row of ``llama-quantize``."""
    return f"llama-quantize {kind}"


def our_row(against: str, variant: str = "") -> str:
    """The name of the row of ours at the bytes of ``against``."""
    return f"{OURS}{variant and f', {variant}'} at {against.removeprefix('llama-quantize ')}"


def cells(setting: Setting, *, quick: bool) -> list[Cell]:
    """All cells of a model, each behind those that it needs."""
    return [*claimed(setting, quick=quick), *others(setting, quick=quick)]


def claimed(setting: Setting, *, quick: bool) -> list[Cell]:
    """Those that claims rest on."""
    types = QUICK_TYPES if quick else TYPES
    found = [Cell(llama_row(kind), LLAMA, "gguf", LlamaQuantize(kind), imatrix=True) for kind in types]
    found += [
        Cell(our_row(llama_row(kind)), OURS, "gguf", Ours("gguf"), against=llama_row(kind))
        for kind in COMPARED
        if kind in types
    ]
    if setting.amounts.rivals:
        found += [cell for rival in claimed_rivals(setting.place.model) for cell in _beside(rival)]
    return found


def others(setting: Setting, *, quick: bool) -> list[Cell]:
    """Those that say more: what each part of ours gives, other rivals, pruning, budgets in between."""
    first = setting.place.model in setting.amounts.pruned_models
    found = list(_swapped(_SWAPPED if first and not quick else _SWAPPED[-1:]))
    if setting.amounts.rivals and not quick:
        found += [cell for rival in other_rivals(setting.place.model) for cell in _beside(rival)]
    if first:
        found += _pruned(setting, quick=quick)
    if first and setting.amounts.between:
        found += [_between(low, high) for low, high in _BETWEEN]
    return found


def _swapped(types: tuple[str, ...]) -> Iterator[Cell]:
    """The rounding of one with the allocation of the other."""
    for kind in types:
        theirs, ours = llama_row(kind), our_row(llama_row(kind))
        yield Cell(
            f"llama-quantize, types of {ours}", "our types, their rounding", "gguf", LlamaQuantize(kind, types_of=ours),
            needs=(ours,), imatrix=True,
        )  # fmt: skip
        yield Cell(
            f"ours, types of {theirs}", "their types, our rounding", "gguf", Ours("gguf", types_of=theirs),
            against=theirs,
        )  # fmt: skip


def _beside(rival: RivalRow) -> Iterator[Cell]:
    """A rival, then ours at its bytes in its format, unless there is one already."""
    yield Cell(rival.name, rival.group, rival.kind, rival.maker, limited=True)
    if rival.ours is not None:
        group = OURS if rival.ours == "gguf" else f"{OURS}, compressed-tensors"
        yield Cell(our_row(rival.name), group, rival.ours, Ours(rival.ours), against=rival.name)


def _pruned(setting: Setting, *, quick: bool) -> Iterator[Cell]:
    """Pruned by each ratio in the bytes that are the least without pruning, in those that are the least at the first
    ratio, and in those of Q3_K_M; the first of these with recovery too, and beside all none pruned."""
    ratios = (0.0, *setting.amounts.ratios)
    for least in ratios[:-1]:
        for steps in (0,) if least or quick else (0, setting.amounts.steps):
            for ratio in (ratio for ratio in ratios if ratio >= least):
                yield _pruned_cell(setting, ratio, steps, _least_name(least), _least(setting, least))
    if not quick:
        budget: Budget = lambda rows: rows[llama_row("Q3_K_M")].bytes  # noqa: E731
        for ratio in ratios[1:]:
            yield _pruned_cell(setting, ratio, 0, "Q3_K_M", budget, needs=(llama_row("Q3_K_M"),))


def pruned_variant(ratio: float, steps: int) -> str:
    """The words for it in the names of rows."""
    pruned = f"{ratio:.0%} pruned" if ratio else "none pruned"
    return f"{pruned}, recovered" if steps else pruned


def _pruned_cell(
    setting: Setting, ratio: float, steps: int, where: str, budget: Budget, needs: tuple[str, ...] = ()
) -> Cell:
    maker = Ours("gguf", {"prune": {"ratio": ratio}, "finetune": {"steps": steps}})
    variant = pruned_variant(ratio, steps)
    return Cell(our_row(where, variant), f"{OURS}, {variant}", "gguf", maker, budget=budget, needs=needs)


def _least_name(ratio: float) -> str:
    return f"the least bytes of {ratio:.0%}" if ratio else "the least bytes"


def _least(setting: Setting, ratio: float) -> Budget:
    """A little more than the least bytes of a model pruned by ``ratio``."""

    def budget(rows: Rows) -> int:
        values = our_config(setting, Ours("gguf", {"prune": {"ratio": ratio}}), 1)
        found = estimate(parse_config(values), check_dataset=False, speed=lambda policy, dtype: None)
        return round(found.predicted_total_bytes * _ABOVE_SMALLEST)

    return budget


def _between(low: str, high: str) -> Cell:
    def budget(rows: Rows) -> int:
        return round(math.sqrt(rows[llama_row(low)].bytes * rows[llama_row(high)].bytes))

    needs = (llama_row(low), llama_row(high))
    return Cell(f"{OURS} between {low} and {high}", OURS, "gguf", Ours("gguf"), budget=budget, needs=needs)
