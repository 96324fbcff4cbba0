"""Environment of a program that runs the pipeline: how it computes is settled before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping

from qpruner_core.threads import thread_settings

_NO_COMPILER = {"TORCHDYNAMO_DISABLE": "1"}
"""Nothing of ours is compiled by torch. But bitsandbytes marks functions for it, which loads the compiler on import
(1.5 s, and 650 modules for every garbage collection to search) and, where g++ is installed, compiles for half a minute
at the first 4-bit weight of an odd width. The values are the same."""


def program_settings(environment: Mapping[str, str], threads: int = 0) -> dict[str, str]:
    """Variables to add to ``environment`` for a program that computes on ``threads`` threads; see
    :func:`~qpruner_core.threads.thread_settings`."""
    added = {name: value for name, value in _NO_COMPILER.items() if not environment.get(name)}
    return added | thread_settings(environment, threads)


def settle_program() -> None:
    """Apply :func:`program_settings` to this process and its children.

    Call it at the start of a program, before torch is imported.
    """
    os.environ.update(program_settings(os.environ))
