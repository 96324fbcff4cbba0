"""The process that inspects an upload as a job would, isolated because it loads torch and untrusted files.

Run as ``python -m worker.check_child``: a :class:`CheckRequest` on standard input, a :class:`CheckResult` on standard
output. It ends when its worker does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from qpruner_core.errors import QPrunerError
from qpruner_core.garbage import collector_paused
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.strict import StrictModel
from worker.protocol import RunError


class CheckRequest(StrictModel):
    """The upload ``name`` at ``path``: the folder of a model, or the file of a dataset."""

    kind: Literal["model", "dataset"]
    name: str
    path: Path
    policy: SourcePolicy


class CheckResult(StrictModel):
    """Result of the inspection, or the error. ``found``: a model's facts, or kind and records of a dataset."""

    found: dict[str, Any] | None = None
    error: RunError | None = None


def main() -> int:
    """Inspect the upload named on standard input; 0 if a result was reported."""
    request = CheckRequest.model_validate_json(sys.stdin.buffer.read())
    policy = request.policy.model_copy(update={"uploads": {request.name: request.path}})
    try:
        found = _look_at_model(request.name, policy) if request.kind == "model" else _look_at_dataset(request, policy)
        result = CheckResult(found=found)
    except QPrunerError as error:
        result = CheckResult(error=RunError.of(error))
    sys.stdout.write(result.model_dump_json())
    return 0


def _look_at_model(name: str, policy: SourcePolicy) -> dict[str, Any]:
    with collector_paused(freeze=True):
        from qpruner_core.models import inspect_model
        from qpruner_core.models.facts import facts_of

    return facts_of(inspect_model(name, policy)).model_dump(mode="json")


def _look_at_dataset(request: CheckRequest, policy: SourcePolicy) -> dict[str, Any]:
    with collector_paused(freeze=True):
        from qpruner_core.data import inspect_dataset

    description = inspect_dataset(request.name, policy)
    return {"kind": description.kind, "records": description.records}


if __name__ == "__main__":
    sys.exit(main())
