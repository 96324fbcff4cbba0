"""Where a process that measures trials begins: nothing that speaks while it is imported may be imported here."""

from __future__ import annotations

from multiprocessing.connection import Connection

from qpruner_core.quiet import quieten_libraries


def begin(connection: Connection) -> None:
    """Measure the proposals that come through ``connection``, with libraries silent: nobody reads what they say."""
    quieten_libraries()
    from qpruner_core.allocate.trial_workers import answer_proposals  # and bitsandbytes with it

    answer_proposals(connection)
