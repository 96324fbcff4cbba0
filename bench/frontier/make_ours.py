"""Make a checkpoint of ours, in a process of its own: ``python -m bench.frontier.make_ours CONFIG OUTPUT``.

``CONFIG`` is a JSON file of the run's settings, and of ``types``: precisions of modules, where the search is not to
choose them. Stops when the checkpoint is written: what comes behind is measured by the benchmark.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from bench.frontier.given_types import give_types
from bench.study.stages import run_until
from qpruner_core.config import parse_config
from qpruner_core.events import Event, StageFinished
from qpruner_core.formats.registry import load_format
from qpruner_core.source_policy import SourcePolicy


def main() -> int:
    """Make what the command line names."""
    file, output = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    values = json.loads(file.read_text(encoding="utf-8"))
    types: Mapping[str, str] = values.pop("types", {})
    config = parse_config(values)
    work = output.with_suffix(".work")

    def give(event: Event) -> None:
        if isinstance(event, StageFinished) and event.stage == "allocate" and types:
            give_types(work, types)

    run_until("export", config, output.with_suffix(".never"), work_dir=work, policy=SourcePolicy(), on_event=give)
    load_format(config.export.formats[0]).place(work / "export").rename(output)
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
