"""Times a checkpoint. Run by the Python that has vLLM, which has no other package of ours.

Arguments: a file with a request, and one for the result, both JSON. The request has ``prompt`` (token ids),
``new_tokens``, ``repetitions``, ``adapter`` (a directory, or null) and ``model``, the arguments of ``vllm.LLM``; the
result has ``prefill`` and ``decode``, tokens per second.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main(request: Path, answer: Path) -> None:
    """Run the measurement of ``request``."""
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    asked = json.loads(request.read_text())
    engine = LLM(skip_tokenizer_init=True, max_num_seqs=1, enable_prefix_caching=False, **asked["model"]).llm_engine
    lora = LoRARequest("recovered", 1, asked["adapter"]) if asked["adapter"] else None
    prompt, new_tokens, repetitions = asked["prompt"], asked["new_tokens"], asked["repetitions"]
    _seconds(engine, prompt, new_tokens, lora)  # the first request prepares kernels
    taken = [_seconds(engine, prompt, new_tokens, lora) for _ in range(repetitions)]
    prefill, decode = (sum(each) for each in zip(*taken, strict=True))
    speeds = {"prefill": repetitions * len(prompt) / prefill, "decode": repetitions * new_tokens / decode}
    answer.write_text(json.dumps(speeds))


def _seconds(engine: Any, prompt: list[int], new_tokens: int, lora: Any) -> tuple[float, float]:
    """Seconds until the first token after ``prompt``, and for ``new_tokens`` after that."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0, max_tokens=new_tokens + 1, ignore_eos=True, detokenize=False)
    started = time.perf_counter()
    engine.add_request("measured", {"prompt_token_ids": prompt}, params, lora_request=lora)
    first = None
    while engine.has_unfinished_requests():
        if engine.step() and first is None:
            first = time.perf_counter()
    if first is None:
        raise RuntimeError("it generated nothing")
    return first - started, time.perf_counter() - first


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
