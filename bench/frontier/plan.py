"""Which cells there are."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bench.frontier.amounts import Amounts
from bench.frontier.cells import LLAMA, OURS, Budget, Cell, LlamaQuantize, Ours, Rows, Setting, our_config
from bench.frontier.rivals.environments import rivals_of
from qpruner_core.config import parse_config
from qpruner_core.planning import estimate

COMPARED = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K")
"""Types of ``llama-quantize`` at whose bytes ours is asked for."""
TYPES = ("Q2_K", "Q3_K_M", "IQ3_S", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K")
QUICK_TYPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M")
_BETWEEN = (("Q2_K", "Q3_K_M"), ("Q3_K_M", "Q4_K_M"), ("Q4_K_M", "Q5_K_M"))
_ABOVE_SMALLEST = 1.03
_SWAPPED = ("Q3_K_M", "Q4_K_M")


def llama_row(kind: str) -> str:
    """The name of the row of ``llama-quantize``."""
    return f"llama-quantize {kind}"


def our_row(against: str, variant: str = "") -> str:
    """The name of the row of ours at the bytes of ``against``."""
    return f"{OURS}{variant and f', {variant}'} at {against.removeprefix('llama-quantize ')}"


def cells(setting: Setting, *, quick: bool) -> list[Cell]:
    """All cells of a model, each behind those that it needs, what claims rest on first."""
    amounts = setting.amounts
    types = QUICK_TYPES if quick else TYPES
    compared = [kind for kind in COMPARED if kind in types]
    found = [Cell(llama_row(kind), LLAMA, "gguf", LlamaQuantize(kind), imatrix=True) for kind in types]
    found += [Cell(our_row(llama_row(kind)), OURS, "gguf", Ours("gguf"), against=llama_row(kind)) for kind in compared]
    found += _swapped(("Q4_K_M",) if quick else _SWAPPED)
    if amounts.rivals:
        found += _rivals(setting, quick=quick)
    if setting.place.model in amounts.pruned_models:
        found += _pruned(setting, quick=quick)
    if amounts.between:
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


def _rivals(setting: Setting, *, quick: bool) -> Iterator[Cell]:
    """Each rival, then ours at its bytes in its format."""
    matched: set[str] = set()
    for rival in rivals_of(setting.place.model, quick=quick):
        yield Cell(rival.name, rival.group, rival.kind, rival.maker, limited=True)
        target = "gguf" if rival.kind == "gguf" else "compressed-tensors"
        if rival.match not in matched:
            matched.add(rival.match)
            group = OURS if target == "gguf" else f"{OURS}, compressed-tensors"
            yield Cell(our_row(rival.name), group, rival.ours_kind, Ours(target), against=rival.name)


def _pruned(setting: Setting, *, quick: bool) -> Iterator[Cell]:
    """Pruned by each ratio in the bytes that are the least without pruning, in those that are the least at the first
    ratio, and in those of Q3_K_M; with and without recovery, and beside them none pruned."""
    ratios = (0.0, *setting.amounts.ratios)
    places: list[tuple[str, float]] = [(f"{ratio:.0%} least", ratio) for ratio in ratios[:-1]]
    for steps in (0, setting.amounts.steps):
        for where, least in places:
            for ratio in ratios:
                if ratio >= least:
                    yield _pruned_cell(setting, ratio, steps, where, _least(setting, least))
        if not quick:
            for ratio in ratios[0 if steps else 1 :]:
                budget: Budget = lambda rows: rows[llama_row("Q3_K_M")].bytes  # noqa: E731
                yield _pruned_cell(setting, ratio, steps, "Q3_K_M", budget, needs=(llama_row("Q3_K_M"),))


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


def amounts_note(amounts: Amounts) -> str:
    """What is the same for all, in a sentence."""
    return f"{amounts.sequences} sequences of {amounts.length} tokens"
