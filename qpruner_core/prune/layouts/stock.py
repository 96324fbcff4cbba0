"""One width for all layers, so that a stock config describes it and the checkpoint loads without our code."""

from __future__ import annotations

from collections.abc import Sequence

from qpruner_core.errors import InvalidConfigError
from qpruner_core.models.families import LayerWidths
from qpruner_core.models.reshape import Shape, config_with_shape
from qpruner_core.prune.config import PruneConfig
from qpruner_core.prune.importance import LayerImportance
from qpruner_core.prune.layer_sizes import LayerSizes
from qpruner_core.prune.layouts.ladder import Ladder, attention_ladder, mlp_ladder, with_rungs
from qpruner_core.prune.layouts.layout import refuse_ratio


def stock(
    layer_sizes: LayerSizes,
    settings: PruneConfig,
    ratio: float,
    importance: Sequence[LayerImportance] | None,
    influence: Sequence[float] | None,
) -> Shape:
    """See :class:`qpruner_core.prune.layouts.layout.Layout`; needs neither importance nor influence.

    No layer is protected, and a group is the same unit in every layer. Attention loses at most its share, as far as the
    stock config accepts the number of heads; the MLP provides the rest.
    """
    now = layer_sizes.widths[0]
    if any(widths != now for widths in layer_sizes.widths):
        raise _no_stock_config("The layers of this model differ in width")
    amount = layer_sizes.parameters_to_remove(ratio) / len(layer_sizes.widths)
    if amount <= 0:
        return list(layer_sizes.widths)
    attention, mlp = attention_ladder(layer_sizes, 0, settings), mlp_ladder(layer_sizes, 0, settings)
    accepted = [rung for rung, fields in enumerate(attention.widths) if is_stock(layer_sizes, with_rungs(now, fields))]
    if not accepted:
        raise _no_stock_config(f"This model's layers differ from those of a stock {layer_sizes.family.model_type}")
    if settings.attention_unit == "query_head" and len(attention.widths) > 1 and accepted == [0]:
        raise InvalidConfigError(
            f"No stock {layer_sizes.family.model_type} config allows fewer query heads in each group of this model.",
            field="prune.attention_unit",
            remedy='Choose "none", or another layout.',
        )
    share = amount / layer_sizes.layer_parameters[0]
    rung = _attention_rung(attention, mlp, accepted, share, amount)
    if rung is None:
        most = max(attention.removed[rung] for rung in accepted) + mlp.removed[-1]
        raise refuse_ratio(layer_sizes, settings, ratio, most * len(layer_sizes.widths))
    channels = mlp.widths[mlp.nearest(amount - attention.removed[rung])]
    return [with_rungs(now, attention.widths[rung], channels)] * len(layer_sizes.widths)


def is_stock(layer_sizes: LayerSizes, widths: LayerWidths) -> bool:
    """Whether a stock config can give every layer ``widths``."""
    config = config_with_shape(layer_sizes.config, layer_sizes.family, [widths] * layer_sizes.first_layers)
    return bool(config.model_type == layer_sizes.family.model_type)


def _no_stock_config(why: str) -> InvalidConfigError:
    return InvalidConfigError(
        f"{why}, so no stock config can describe the pruned model.",
        field="prune.layout",
        remedy='Choose the layout "same_ratio" or "global".',
    )


def _attention_rung(attention: Ladder, mlp: Ladder, accepted: list[int], share: float, amount: float) -> int | None:
    """The narrowest accepted attention that loses at most its share, narrower only if the MLP alone falls short."""
    group = max((above - below for below, above in zip(mlp.removed, mlp.removed[1:], strict=False)), default=0)
    kept_share = (1 - share) * (attention.units[-1] + 1)
    modest = [rung for rung in accepted if attention.units[-1] + 1 - attention.units[rung] >= kept_share - 1e-9]
    for rung in [*reversed(modest), *(rung for rung in accepted if rung not in modest)]:
        if amount - attention.removed[rung] - mlp.removed[-1] <= group:
            return rung
    return None
