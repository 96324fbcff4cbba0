"""Peak device memory of recovery and of inference, LLM-Pruner's recipe beside ours, at the shape of a 7B Llama.

    python -m bench.gpu_recovery --markdown FILE

Random weights go through the pipeline by each method at each ratio, with few trials and steps; what comes out is
loaded, trained for a few steps and asked for tokens. Every row and every finished stage is kept in the work directory:
ended and started again, it goes on where it was. ``--shape tiny`` runs anywhere, to see that the script works; on a CPU
the peaks are left open.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import cast

import torch
from pydantic import ValidationError
from transformers import PreTrainedModel

from bench.device_memory import NO_GPU, DevicePeak, device_name, measured
from bench.gpu_recovery_report import FORWARD, GENERATION, RECOVERY, TITLE, GpuAmounts, GpuReport, GpuRow, render
from bench.machine import today, versions
from bench.own_files import require_own_page
from bench.paper.budgets import part_way, without_limit
from bench.paper.methods import LLM_PRUNER, OURS, OURS_FROM_TEXT, QPRUNER3, Method
from bench.paper.recovery_memory import Recovery, recover
from bench.paper.run import folder_of
from bench.paper.stages import FinishedStages, StageRunner
from bench.random_checkpoint import SHAPES, write_random_model
from bench.texts import read_texts
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.errors import QPrunerError
from qpruner_core.events import STAGES
from qpruner_core.loading import load_mixed_checkpoint
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.models.checkpoint import WEIGHT_FILE
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.resources import best_device

OURS_FROM_TEACHER = replace(OURS, name="ours, learning from the dense model", finetune={"loss": "distillation"})
METHODS = (LLM_PRUNER, OURS_FROM_TEXT, OURS_FROM_TEACHER)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; the exit status."""
    options = _parser().parse_args(arguments)
    if options.shape == "7b" and not torch.cuda.is_available():
        print(NO_GPU)
        return 2
    amounts = GpuAmounts.model_validate({name: getattr(options, name) for name in GpuAmounts.model_fields})
    try:
        if options.markdown is not None:
            require_own_page(options.markdown, TITLE, "markdown")
        GpuRecovery(amounts, options.work_dir / options.shape, options.markdown).run(options.ratios)
    except KeyboardInterrupt:
        print("\nEnded. What is finished is kept: the same command goes on behind it.", file=sys.stderr)
        return 130
    except QPrunerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class GpuRecovery:
    """Rows of all methods, measured unless ``work`` has them; the page goes to ``page`` as it grows."""

    def __init__(self, amounts: GpuAmounts, work: Path, page: Path | None) -> None:
        self._amounts = amounts
        self._work = work
        self._page = page
        self._checkpoint = work / "model"
        self._text = work / "text.txt"

    def run(self, ratios: Sequence[float]) -> None:
        """Measure at each of ``ratios``, and print the page."""
        self._make_inputs()
        weights = (self._checkpoint / WEIGHT_FILE).stat().st_size
        report = GpuReport(device=device_name(), versions=versions(), weights=weights, amounts=self._amounts, rows=[])
        for ratio in ratios:
            for preset, methods in groupby(METHODS, key=lambda method: method.preset):
                cell = self._work / f"cell-{preset}-{ratio}"
                for method in methods:
                    report.rows.append(self._row(method, ratio, cell))
                    self._write(report)
                shutil.rmtree(cell, ignore_errors=True)  # no later row shares its stages, and disks are small
        print(render(report))

    def _write(self, report: GpuReport) -> None:
        if self._page is not None:
            self._page.parent.mkdir(parents=True, exist_ok=True)
            self._page.write_text(render(report), encoding="utf-8")

    def _make_inputs(self) -> None:
        """The random model and some text, unless they are there."""
        if self._checkpoint.is_dir():
            return
        print("writing the random model …", flush=True)
        partial = self._checkpoint.with_name("model.part")
        shutil.rmtree(partial, ignore_errors=True)
        write_random_model(self._amounts.shape, partial, best_device())
        (documents,) = read_texts(None).calibration.values()
        self._text.write_text("\n\n".join(documents), encoding="utf-8")
        partial.rename(self._checkpoint)

    def _row(self, method: Method, ratio: float, cell: Path) -> GpuRow:
        config = self._config(method, ratio, self._budget(method, ratio))
        file = self._work / "rows" / f"{folder_of(method)}-{ratio}.json"
        key = _key(config, self._amounts)
        row = _read_row(file)
        if row is None or row.key != key:
            print(f"{method.name} at {ratio:.0%} …", flush=True)
            stages = StageRunner(cell).run(folder_of(method), config, self._amounts.last)
            row = GpuRow(
                key=key, method=method.name, ratio=ratio, date=today(), bytes=stages.allocation.best.bytes,
                seconds={stage: stages.seconds(stage) for stage in stages.records},
                peaks=self._peaks(stages),
            )  # fmt: skip
            _write_row(file, row)
        return row

    def _budget(self, method: Method, ratio: float) -> int:
        free = without_limit(str(self._checkpoint))
        return part_way(self._config(QPRUNER3, ratio, free), ratio) if method.in_budget else free

    def _config(self, method: Method, ratio: float, budget: int) -> CompressionConfig:
        amounts = self._amounts
        return parse_config(
            {
                "model": str(self._checkpoint), "dataset": str(self._text),
                "target": "bitsandbytes", "memory_budget": budget,
                "preset": method.preset, "sequence_length": amounts.length,
                "prune": {"ratio": ratio, "calibration_sequences": amounts.sequences},
                "score": {"calibration_sequences": amounts.sequences},
                "allocate": {
                    "trials": amounts.trials, "random_seeds": 1, "calibration_sequences": amounts.sequences,
                },
                "finetune": {"steps": amounts.steps, "batch_size": amounts.batch_size, **method.finetune},
                "evaluate": {"max_tokens": 1024, "generated_tokens": 8},
                "export": {"formats": ["mixed"]},
            }
        )  # fmt: skip

    def _peaks(self, stages: FinishedStages) -> list[DevicePeak]:
        """Of the model that the stages made, loaded anew for each."""
        amounts, device = self._amounts, best_device()
        model, adapter = stages.work / "quantize" / "model", stages.work / "finetune" / "adapter"
        distils = stages.records["finetune"].summary["loss"] == "distillation"
        recovery = Recovery(
            model, adapter, self._checkpoint if distils else None, quantized=True, steps=amounts.memory_steps,
            batch_size=amounts.batch_size, length=amounts.length,
        )  # fmt: skip
        peaks: list[DevicePeak] = []
        with measured(RECOVERY, peaks):
            recover(recovery, device)
        with measured(FORWARD, peaks):
            _forward(_loaded(model, adapter, device), amounts.prompt)
        with measured(GENERATION, peaks):
            _generate(_loaded(model, adapter, device), amounts.prompt, amounts.generated)
        return peaks


def _loaded(model: Path, adapter: Path, device: torch.device) -> PreTrainedModel:
    """As it is used: where all modules have 16 bits, the adapters are merged."""
    loaded = load_mixed_checkpoint(model, adapter, device=device)
    _, precision, _ = read_mixed_config(model)
    merged = loaded.merge_and_unload() if set(precision.precisions.values()) == {UNQUANTIZED} else loaded
    return cast(PreTrainedModel, merged)


@torch.no_grad()
def _forward(model: PreTrainedModel, tokens: int) -> None:
    model(input_ids=_prompt(model, tokens), use_cache=False)


@torch.no_grad()
def _generate(model: PreTrainedModel, tokens: int, generated: int) -> None:
    ids = _prompt(model, tokens)
    model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=generated, min_new_tokens=generated, do_sample=False,
        pad_token_id=0,
    )  # fmt: skip


def _prompt(model: PreTrainedModel, tokens: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, model.config.vocab_size, (1, tokens), generator=generator).to(model.device)


def _key(config: CompressionConfig, amounts: GpuAmounts) -> str:
    """Digest of what a row follows from; where the random model lies does not matter."""
    settings = config.model_dump(mode="json", exclude={"model", "dataset"})
    parts = [settings, amounts.model_dump(), device_name(), versions()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read_row(file: Path) -> GpuRow | None:
    try:
        return GpuRow.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _write_row(file: Path, row: GpuRow) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".part")
    partial.write_text(row.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(file)


def _parser() -> argparse.ArgumentParser:
    usual = GpuAmounts()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=tuple(SHAPES), default=usual.shape)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.2, 0.3, 0.5], help="of pruning")
    for name, said in (
        ("sequences", "of calibration"),
        ("trials", "of the search"),
        ("steps", "of recovery in the pipeline"),
        ("batch-size", "sequences of a step"),
        ("length", "tokens of a sequence"),
        ("memory-steps", "of recovery when its memory is measured"),
        ("prompt", "tokens of a forward pass, and before generated ones"),
        ("generated", "tokens"),
    ):
        default = getattr(usual, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{said} (default %(default)s)")
    parser.add_argument(
        "--last", choices=STAGES[STAGES.index("finetune") :], default=usual.last,
        help="the stage that the pipeline ends with (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--markdown", type=Path, help="write the page here too, anew with each row")
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path(".qpruner/bench-gpu-recovery"),
        help="where rows and stages are kept, about four times the weights",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
