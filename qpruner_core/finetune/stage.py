"""Stage 5: recovery of the quantized model by training an adapter, or the model itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qpruner_core.finetune.adapter import recover_by_adapter
from qpruner_core.finetune.config import RecoveryPart
from qpruner_core.finetune.merge import recover_by_merging
from qpruner_core.finetune.phase import Phase, phases, together
from qpruner_core.finetune.scales import recover_by_scales
from qpruner_core.mixed.recovered import MODEL, quantized_model
from qpruner_core.models.checkpoint_writer import copy_tokenizer
from qpruner_core.models.shards import link_tree
from qpruner_core.stage import StageContext
from qpruner_core.training.loss_choice import recovery_key

_SUMMARY = "summary.json"

Recover = Callable[[StageContext, Phase, Path, Path], dict[str, Any]]
_IN_THE_FORMAT: Mapping[RecoveryPart, Recover] = {"merge": recover_by_merging, "scales": recover_by_scales}


def run(context: StageContext, output: Path) -> dict[str, Any]:
    """Write the recovered adapter, in bfloat16, to ``output/adapter``, or the recovered model to ``output/model``: the
    same modules, precisions and bytes as in the quantize stage."""
    settings, parts = context.config.finetune, context.plan.target.recovery
    named = {"recovery": "+".join(parts)}
    if parts == ("adapter",):
        return recover_by_adapter(context, output) | named
    source = quantized_model(context).model
    if settings.steps == 0:
        link_tree(source, output / MODEL)
        return {"steps": 0} | named
    summaries: list[dict[str, Any]] = []
    *first, last = phases(settings, parts)
    directory = source
    for phase in first:
        directory, summary = _kept(context, _after(phase, summaries), directory)
        summaries.append(summary)
    phase = _after(last, summaries)
    summaries.append(_IN_THE_FORMAT[phase.part](context, phase, directory, output / MODEL))
    copy_tokenizer(source, output / MODEL)
    return together(summaries) | named


def _after(phase: Phase, summaries: list[dict[str, Any]]) -> Phase:
    """``phase`` after those of ``summaries``, which may have ended early."""
    return replace(phase, before=summaries[-1]["steps"] if summaries else 0)


def _kept(context: StageContext, phase: Phase, source: Path) -> tuple[Path, dict[str, Any]]:
    """Run ``phase`` on the model in ``source``: directory and summary of the result; a resumed run finds both."""
    progress, key = context.store.progress_directory("finetune"), recovery_key(context)
    place, partial = progress / phase.part, progress / f"{phase.part}.partial"
    if (place / _SUMMARY).is_file():
        known = json.loads((place / _SUMMARY).read_text())
        if known["key"] == key:
            return place / MODEL, known["summary"]
    for old in (place, partial):
        shutil.rmtree(old, ignore_errors=True)
    summary = _IN_THE_FORMAT[phase.part](context, phase, source, partial / MODEL)
    (partial / _SUMMARY).write_text(json.dumps({"key": key, "summary": summary}))
    partial.rename(place)
    return place / MODEL, summary
