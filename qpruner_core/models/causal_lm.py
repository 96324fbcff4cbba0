"""Check whether a ``config.json`` is that of a causal language model with its head."""

from __future__ import annotations

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from qpruner_core.errors import UnsupportedArchitectureError
from qpruner_core.models.families import DECI, Family, family_names, find_family

_CAUSAL_ENDINGS = ("forcausallm", "lmheadmodel")
_OTHER_MODALITIES = ("vision_config", "audio_config", "text_config")


def refuse_other_models(values: dict[str, Any], model_type: str) -> None:
    """Reject anything but a causal language model, given the ``values`` of its ``config.json``.

    ``architectures`` may be missing; the tensors then decide.

    Raises:
        UnsupportedArchitectureError: a classifier, a model without its head, an encoder, a model of images or sound,
            one with bidirectional attention, or an unsupported family.
    """
    _refuse_other_modalities(values, model_type)
    family = find_family(model_type)
    named = values.get("architectures") or []
    for name in named if isinstance(named, list) else [named]:
        ours = (
            values.get("model_type") == family.pruned_model_type and name == DECI
        )  # the architecture that vLLM reads it as
        if not ours and not _is_causal_lm(name, family):
            raise _refused(
                f"The model is a {str(name)[:100]}, not a causal language model.",
                f"Choose a causal language model with its head (of this architecture: {_stock_class(family)}).",
            )
    if values.get("is_encoder_decoder"):
        raise _refused(
            "The model is an encoder with a decoder (is_encoder_decoder).", "Choose a decoder-only language model."
        )
    looks_ahead = [name for name in ("use_bidirectional_attention",) if values.get(name)]
    if values.get("is_causal") is False:
        looks_ahead.append("is_causal")
    if looks_ahead:
        raise _refused(
            f"The attention of the model is bidirectional ({looks_ahead[0]} is {values[looks_ahead[0]]}): it "
            "is made for embeddings, not to predict the next token.",
            "Choose a causal language model.",
        )


def _refuse_other_modalities(values: dict[str, Any], model_type: str) -> None:
    parts = [name for name in _OTHER_MODALITIES if values.get(name)]
    if not parts:
        return
    text = values.get("text_config")
    inner = text.get("model_type") if isinstance(text, dict) else None
    ways = f"the language model inside it ({inner})" if inner in family_names() else "a supported language model"
    raise _refused(
        f"The model ({model_type}) joins a language model with others ({parts[0]} in config.json).",
        f"Save {ways} on its own with save_pretrained, and give that directory.",
    )


def _is_causal_lm(name: object, family: Family) -> bool:
    """Case-insensitive: early Llama checkpoints name ``LLaMAForCausalLM``."""
    known = {str(value).lower() for value in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}
    lower = str(name).lower()
    return lower == family.model_class.lower() or (lower in known and lower.endswith(_CAUSAL_ENDINGS))


def _stock_class(family: Family) -> str:
    return str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[family.model_type])


def _refused(what: str, remedy: str) -> UnsupportedArchitectureError:
    return UnsupportedArchitectureError(what, field="model", remedy=remedy)
