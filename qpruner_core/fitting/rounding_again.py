"""Quantize changed weights again in the same precisions."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from qpruner_core.fitting.error_feedback import encode_with_feedback
from qpruner_core.fitting.fit_files import with_moments
from qpruner_core.mixed.groups import linear_names
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.models.families import linear_weight
from qpruner_core.models.shards import StoredTensors
from qpruner_core.precisions import Tensors, precisions
from qpruner_core.stage import StageContext


def rounded_again(context: StageContext, model: PreTrainedModel, directory: Path) -> Tensors:
    """Tensors of the mixed checkpoint of ``directory`` with the weights of ``model``, which is in 16 bits.

    Every linear module of the layers keeps its precision and therefore its bytes. It is rounded by
    ``quantize.rounding`` with the inputs that it has in ``model``. All other tensors are unchanged.
    """
    _, precision, family = read_mixed_config(directory)
    kinds = precisions(precision)
    layers = range(len(family.decoder_layers(model)))
    wanted = {name: [precision.precisions[name]] for layer in layers for name in linear_names(model, family, layer)}
    tensors: Tensors = {}
    for names, moments in with_moments(context, model, wanted):
        weights = [(linear_weight(model.get_submodule(name)), kinds[precision.precisions[name]]) for name in names]
        if moments is None:
            encoded = [kind.encode(weight) for weight, kind in weights]
        else:
            encoded = encode_with_feedback(weights, moments)
        for name, own in zip(names, encoded, strict=True):
            tensors |= {f"{name}.{key}": value for key, value in own.items()}
    with StoredTensors(directory) as stored:
        return {name: stored.get(name) for name in stored.names() - tensors.keys()} | tensors
