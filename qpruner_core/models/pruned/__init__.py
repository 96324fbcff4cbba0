"""Model classes with a width per layer, one file a family; each file is copied into the checkpoints that need it.

Registered here with transformers' Auto classes, so that inside this package no remote code is trusted.
"""

from transformers import AutoConfig, AutoModelForCausalLM

from qpruner_core.models.pruned.modeling_qpruner_llama import QPrunerLlamaConfig, QPrunerLlamaForCausalLM
from qpruner_core.models.pruned.modeling_qpruner_mistral import QPrunerMistralConfig, QPrunerMistralForCausalLM
from qpruner_core.models.pruned.modeling_qpruner_qwen2 import QPrunerQwen2Config, QPrunerQwen2ForCausalLM

for _config, _model in (
    (QPrunerLlamaConfig, QPrunerLlamaForCausalLM),
    (QPrunerMistralConfig, QPrunerMistralForCausalLM),
    (QPrunerQwen2Config, QPrunerQwen2ForCausalLM),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModelForCausalLM.register(_config, _model, exist_ok=True)
