"""The process of one job: it has no credentials, and ends when its supervisor does.

Run as ``python -m worker.child``; see :mod:`worker.protocol`.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from typing import TextIO

from pydantic import BaseModel

from qpruner_core.errors import QPrunerError
from qpruner_core.events import StageName
from qpruner_core.garbage import collector_paused
from qpruner_core.stage_store import disk_full_as_error
from worker.protocol import ANSWER_ADAPTER, ChildRequest, RunError, RunResult, StageAnswer, StageWanted, TrialTurn
from worker.trial_lines import HelperLines, SharingLines

_PATIENCE = 10.0
"""Seconds in which the supervisor must begin to look for a stage."""
_LITTLE_PATIENCE = 0.5
"""The same after it once did not: a database or a store holds it up."""


def main() -> int:
    """Run the request in the first line of standard input; 0 if a result or a named error was reported."""
    lines = _take_standard_output()
    with open(0, "rb", buffering=0, closefd=False) as unbuffered:
        request = ChildRequest.model_validate_json(unbuffered.readline())
    answers: queue.SimpleQueue[StageAnswer] = queue.SimpleQueue()
    turns: queue.SimpleQueue[TrialTurn] = queue.SimpleQueue()
    threading.Thread(target=_read_lifeline, args=(answers, turns), name="lifeline", daemon=True).start()
    try:
        final: BaseModel = _run(request, lines, answers, turns)
    except QPrunerError as error:
        traceback.print_exc()
        final = RunError.of(error)
    _tell(lines, final)
    return 0


def _run(
    request: ChildRequest, lines: TextIO, answers: queue.SimpleQueue[StageAnswer], turns: queue.SimpleQueue[TrialTurn]
) -> RunResult:
    with collector_paused(freeze=True):
        from qpruner_core import compress

    def tell(line: BaseModel) -> None:
        _tell(lines, line)

    if request.trials == "of_another":
        from qpruner_core.pipeline import help_search

        help_search(
            request.config, request.output, work_dir=request.work_dir, policy=request.policy,
            helper=HelperLines(tell, turns),
        )  # fmt: skip

    patience = _PATIENCE

    def find_stage(stage: StageName, key: str) -> bool:
        nonlocal patience
        _tell(lines, StageWanted(stage=stage, key=key, patience=patience))
        try:
            answer = _answer_to(key, answers, patience)
        except queue.Empty:
            patience = _LITTLE_PATIENCE
            return False
        while answer.found is None:
            answer = _answer_to(key, answers, None)
        patience = _PATIENCE
        return answer.found

    with disk_full_as_error(request.work_dir):
        report = compress(
            request.config, request.output, work_dir=request.work_dir, policy=request.policy,
            on_event=tell, find_stage=find_stage,
            exchange=SharingLines(tell, turns) if request.trials == "shared" else None,
        )  # fmt: skip
    return RunResult(report=report)


def _answer_to(key: str, answers: queue.SimpleQueue[StageAnswer], patience: float | None) -> StageAnswer:
    """The next answer to the question for ``key``; :class:`queue.Empty` if none arrives in ``patience`` seconds."""
    while True:
        answer = answers.get(timeout=patience)
        if answer.key in ("", key):
            return answer


def _take_standard_output() -> TextIO:
    """Keep standard output for the protocol; prints of libraries go to standard error."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return lines


def _tell(lines: TextIO, message: BaseModel) -> None:
    lines.write(message.model_dump_json() + "\n")
    lines.flush()


def _read_lifeline(answers: queue.SimpleQueue[StageAnswer], turns: queue.SimpleQueue[TrialTurn]) -> None:
    """Receive answers, and kill this process and its children once the supervisor's end of standard input closes."""
    try:
        with open(0, "rb", buffering=0, closefd=False) as lifeline:
            while line := lifeline.readline():
                answer = ANSWER_ADAPTER.validate_json(line)
                if isinstance(answer, TrialTurn):
                    turns.put(answer)
                else:
                    answers.put(answer)
    finally:
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
