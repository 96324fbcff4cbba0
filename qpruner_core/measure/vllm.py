"""Speed of a checkpoint in vLLM if it is installed, measured in a separate process by vLLM's own Python."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from qpruner_core.measure.engine_process import engine_output
from qpruner_core.measure.speed import EngineFailedError, Speed
from qpruner_core.measure.vllm_python import vllm_python
from qpruner_core.models.families import DECI
from qpruner_core.models.json_files import read_json_object
from qpruner_core.models.model_config import CONFIG_FILE, LARGEST_CONFIG

ENGINE = "vLLM"
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of ``--max-lora-rank``."""

_SCRIPT = Path(__file__).with_name("vllm_script.py")
_PROMPT_TOKENS = 128
_REPETITIONS = 2
_SHARE_OF_FREE_MEMORY = 0.9
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
_ON_A_CPU = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # by default it uses one core of two
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "TORCHDYNAMO_DISABLE": "1",  # otherwise it compiles at the first request
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, which can be ended as one
}


def vllm_speed(
    checkpoint: Path,
    new_tokens: int,
    *,
    gpu: bool,
    adapter: Path | None = None,
    adapter_rank: int = 0,
    look: Callable[[], None] = lambda: None,
) -> Speed | None:
    """Tokens per second that vLLM generates and reads with the model of the directory ``checkpoint``, in bfloat16.

    The mean of two runs after a warm-up: a prompt of 128 tokens read, and ``new_tokens`` generated at batch 1. On a CPU
    with as many threads as torch, and not compiled; on a GPU with vLLM's defaults, in nine tenths of the free memory.
    ``adapter``: LoRA adapter to attach, with its largest rank. ``look`` is called several times per second; an
    exception that it raises ends the measurement. ``None`` if vLLM is not installed.

    Raises:
        EngineFailedError: it failed, or exceeded a quarter of an hour.
    """
    python = vllm_python()
    if python is None:
        return None
    request = _request(checkpoint, new_tokens, gpu=gpu, adapter=adapter, adapter_rank=adapter_rank)
    environment = {**os.environ, **_ENVIRONMENT}
    if not gpu:
        environment |= _ON_A_CPU | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with tempfile.TemporaryDirectory() as scratch:
        asked, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        asked.write_text(json.dumps(request))
        # -P: vLLM must not import modules beside the script
        command = [str(python), "-P", str(_SCRIPT), str(asked), str(answer)]
        engine_output(ENGINE, command, look=look, environment=environment, folder=Path(scratch))
        try:
            found = json.loads(answer.read_text())
            decode, prefill = float(found["decode"]), float(found["prefill"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EngineFailedError("vLLM printed no speeds.") from error
    return Speed(tokens_per_second=decode, prefill_tokens_per_second=prefill, engine=ENGINE)


def _request(
    checkpoint: Path, new_tokens: int, *, gpu: bool, adapter: Path | None, adapter_rank: int
) -> dict[str, Any]:
    """The request of the script."""
    config = read_json_object(checkpoint / CONFIG_FILE, most_bytes=LARGEST_CONFIG)
    positions = config.get("max_position_embeddings") or _PROMPT_TOKENS + new_tokens + 1
    new_tokens = max(1, min(new_tokens, positions - 2))
    length = max(1, min(_PROMPT_TOKENS, positions - new_tokens - 1))
    own_code = "auto_map" in config
    own_graph = own_code and (adapter is not None or DECI not in config.get("architectures", []))
    model: dict[str, Any] = {
        "model": str(checkpoint.resolve()),
        "dtype": "bfloat16",
        "max_model_len": length + new_tokens + 1,
        "trust_remote_code": own_code,
        "model_impl": "transformers" if own_graph else "auto",
        "enforce_eager": not gpu,
        **(_share_of_the_gpu() if gpu else {}),
        **(_with_adapter(adapter_rank) if adapter is not None else {}),
    }
    return {
        "model": model,
        "prompt": [(7 * place + 3) % int(config["vocab_size"]) for place in range(length)],
        "new_tokens": new_tokens,
        "repetitions": _REPETITIONS,
        "adapter": None if adapter is None else str(adapter.resolve()),
    }


def _share_of_the_gpu() -> Mapping[str, float]:
    """Free share of the GPU's memory: the model that was read back is there too, and vLLM requires all of its share to
    be free."""
    free, whole = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": _SHARE_OF_FREE_MEMORY * free / whole}


def _with_adapter(rank: int) -> Mapping[str, int | bool]:
    room = next((one for one in LORA_RANKS if one >= rank), None)
    if room is None:
        raise EngineFailedError(f"vLLM supports adapters up to rank {LORA_RANKS[-1]}, but this one has {rank}.")
    return {"enable_lora": True, "max_lora_rank": room}
