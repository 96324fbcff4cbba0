"""Speed of a GGUF file in llama.cpp, measured by ``llama-bench`` if it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qpruner_core.measure.engine_process import engine_output
from qpruner_core.measure.llama_cpp_programs import llama_cpp_program
from qpruner_core.measure.speed import EngineFailedError, Speed

ENGINE = "llama.cpp"
_PROMPT_TOKENS = 128
_REPETITIONS = 2


def llama_cpp_speed(path: Path, new_tokens: int, *, gpu: bool, look: Callable[[], None] = lambda: None) -> Speed | None:
    """Tokens per second that llama.cpp generates and reads with the model of ``path``, on as many threads as torch.

    The mean of two runs after a warm-up each: ``new_tokens`` generated at batch 1, and a prompt of 128 tokens read. On
    a CPU unless ``gpu``. ``look`` is called several times per second; an exception that it raises ends the measurement.
    ``None`` if llama.cpp is not installed.

    Raises:
        EngineFailedError: it failed, or exceeded a quarter of an hour.
    """
    program = llama_cpp_program("llama-bench")
    if program is None:
        return None
    command = [
        str(program), "-m", str(path), "-o", "json", "-r", str(_REPETITIONS), "-t", str(torch.get_num_threads()),
        "-p", str(_PROMPT_TOKENS), "-n", str(new_tokens), *([] if gpu else ["-ngl", "0"]),
    ]  # fmt: skip
    rows = _rows(engine_output("llama-bench", command, look=look))
    prompts, answers = ([row for row in rows if row.get(key)] for key in ("n_prompt", "n_gen"))
    try:
        decode, prefill = float(answers[0]["avg_ts"]), float(prompts[0]["avg_ts"])
    except (LookupError, TypeError, ValueError) as error:
        raise EngineFailedError("llama-bench printed no speeds.") from error
    return Speed(tokens_per_second=decode, prefill_tokens_per_second=prefill, engine=ENGINE)


def _rows(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise EngineFailedError("llama-bench printed no JSON.") from error
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
