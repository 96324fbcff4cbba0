"""Entry point of a process that measures trials. Import nothing here that prints while it is imported."""

from __future__ import annotations

from multiprocessing.connection import Connection

from qpruner_core.garbage import collector_paused
from qpruner_core.quiet import quieten_libraries


def begin(connection: Connection) -> None:
    """Measure the proposals that arrive on ``connection``, with the output of libraries silenced."""
    quieten_libraries()
    with collector_paused(freeze=True):
        from qpruner_core.allocate.trial_workers import answer_proposals  # imports bitsandbytes

    answer_proposals(connection)
