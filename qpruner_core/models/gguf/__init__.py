"""Read GGUF models: bounded headers, models of several files, declared architectures, exact tokenizers."""

from qpruner_core.models.gguf.convert import convert_gguf, read_gguf_config
from qpruner_core.models.gguf.split import gguf_models, missing_shard, shard_names

__all__ = ["convert_gguf", "gguf_models", "missing_shard", "read_gguf_config", "shard_names"]
