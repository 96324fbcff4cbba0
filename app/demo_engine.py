"""The demo's file in llama.cpp, if it is installed."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from qpruner_core.die_with_parent import dying_with_parent
from qpruner_core.measure.llama_cpp_programs import llama_cpp_program

NEW_TOKENS = 48
PROMPT = "The with statement is used to"
_LOADING_SECONDS = 60.0


class DemoError(Exception):
    """The demo cannot continue; the message has the reason and the remedy."""


def say_in_llama_cpp(path: Path) -> str | None:
    """llama.cpp's continuation of the prompt; ``None`` if it is not installed."""
    program = llama_cpp_program("llama-server")
    if program is None:
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program), "-m", str(path), "--host", "127.0.0.1", "--port", str(port), "-c", "512", "-np", "1"]
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(dying_with_parent(command, signal.SIGKILL), **quiet)  # noqa: S603 - a program that the operator installed
    try:
        return _complete(f"http://127.0.0.1:{port}", PROMPT, NEW_TOKENS, lambda: process.poll() is None)
    finally:
        process.kill()
        process.wait()


def _complete(url: str, prompt: str, new_tokens: int, alive: Callable[[], bool]) -> str:
    """Greedy continuation of ``prompt`` by the ``llama-server`` at ``url``, once its model is loaded.

    Raises:
        DemoError: it has ended, or is not ready after a minute.
    """
    deadline = time.monotonic() + _LOADING_SECONDS
    while alive() and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health").status_code == 200:
                body = {"prompt": prompt, "n_predict": new_tokens, "temperature": 0.0}
                answer = httpx.post(f"{url}/completion", json=body, timeout=120.0)
                answer.raise_for_status()
                return str(answer.json()["content"])
        time.sleep(0.1)
    raise DemoError("llama-server does not run the downloaded file.")
