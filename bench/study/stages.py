"""Running the pipeline up to one of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import CancelledError
from qpruner_core.events import CancelToken, Event, EventCallback, StageFinished, StageName, ignore_event
from qpruner_core.pipeline import compress


def run_until(
    last: StageName, config: CompressionConfig, output: Path, *, on_event: EventCallback = ignore_event, **options: Any
) -> None:
    """Run the stages of ``config`` up to ``last``, whose files stay in the work directory; ``options``: ``compress``'s.

    Raises as :func:`qpruner_core.pipeline.compress` does.
    """
    cancel = CancelToken()

    def listen(event: Event) -> None:
        on_event(event)
        if isinstance(event, StageFinished) and event.stage == last:
            cancel.cancel()

    try:
        compress(config, output, on_event=listen, cancel=cancel, **options)
    except CancelledError:
        return
