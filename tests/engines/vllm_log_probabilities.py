"""Run by vLLM's own Python: the log-probabilities of the tokens of prompts. Arguments: a request, where to answer."""

import json
import os
import sys
from pathlib import Path

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

if __name__ == "__main__":
    settings = json.loads(Path(sys.argv[1]).read_text())
    prompts, adapter = settings.pop("prompts"), settings.pop("adapter", None)
    model = LLM(enforce_eager=True, skip_tokenizer_init=True, max_model_len=256, max_num_seqs=4, **settings)
    done = model.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False),
        use_tqdm=False,
        lora_request=LoRARequest("recovered", 1, adapter) if adapter else None,
    )
    answer = [
        [entry[token].logprob for entry, token in zip(each.prompt_logprobs[1:], prompt[1:], strict=True)]
        for each, prompt in zip(done, prompts, strict=True)
    ]
    Path(sys.argv[2]).write_text(json.dumps(answer))
    os._exit(0)  # its threads may abort the process while Python ends
