"""Speed of a GGUF file in llama.cpp, by its own ``llama-bench``, where that is installed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qpruner_core.measure.llama_cpp_programs import llama_cpp_program
from qpruner_core.measure.speed import EngineFailedError, Speed

ENGINE = "llama.cpp"
_PROMPT_TOKENS = 128
_REPETITIONS = 2
_LONGEST_SECONDS = 900.0
_LOOK_SECONDS = 0.2


def llama_cpp_speed(path: Path, new_tokens: int, *, gpu: bool, look: Callable[[], None] = lambda: None) -> Speed | None:
    """Tokens per second that llama.cpp generates and reads with the model of ``path``, on as many threads as torch has.

    The mean of two runs after a warm-up each: ``new_tokens`` generated at batch 1, and a prompt of 128 tokens read. On
    a CPU unless ``gpu``. ``look`` is called several times per second, and ends the measurement by what it raises.
    ``None`` where llama.cpp is not installed.

    Raises:
        EngineFailedError: it could not be run, or not within a quarter of an hour.
    """
    program = llama_cpp_program("llama-bench")
    if program is None:
        return None
    command = [
        str(program), "-m", str(path), "-o", "json", "-r", str(_REPETITIONS), "-t", str(torch.get_num_threads()),
        "-p", str(_PROMPT_TOKENS), "-n", str(new_tokens), *([] if gpu else ["-ngl", "0"]),
    ]  # fmt: skip
    rows = _rows(_output(command, look))
    prompts, answers = ([row for row in rows if row.get(key)] for key in ("n_prompt", "n_gen"))
    try:
        decode, prefill = float(answers[0]["avg_ts"]), float(prompts[0]["avg_ts"])
    except (LookupError, TypeError, ValueError) as error:
        raise EngineFailedError("llama-bench printed no speeds.") from error
    return Speed(tokens_per_second=decode, prefill_tokens_per_second=prefill, engine=ENGINE)


def _output(command: list[str], look: Callable[[], None]) -> str:
    """What ``command`` prints."""
    try:
        process = subprocess.Popen(  # noqa: S603 - a program that the operator installed
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise EngineFailedError(f"llama-bench does not start: {error}.") from error
    deadline = time.monotonic() + _LONGEST_SECONDS
    try:
        while True:
            try:
                out, errors = process.communicate(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                look()
                if time.monotonic() > deadline:
                    raise EngineFailedError("llama-bench took longer than a quarter of an hour.") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode:
        last = (errors.strip().splitlines() or ["it says nothing"])[-1]
        raise EngineFailedError(f"llama-bench ended with {process.returncode}: {last}")
    return out


def _rows(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise EngineFailedError("llama-bench printed no JSON.") from error
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
