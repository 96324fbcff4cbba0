"""Find, check and load models."""

from qpruner_core.models.inspect import ModelDescription, inspect_model
from qpruner_core.models.load import load_model, load_tokenizer
from qpruner_core.models.source import ModelSource, resolve_model

__all__ = ["ModelDescription", "ModelSource", "inspect_model", "load_model", "load_tokenizer", "resolve_model"]
