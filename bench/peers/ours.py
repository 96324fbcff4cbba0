"""Our own pipeline without pruning and without recovery: the quantized model with its adapters as they start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from bench.peers.peer import Calibration, Quantized
from bench.peers.stored_bytes import stored_bytes
from qpruner_core.adapters import attach_adapter
from qpruner_core.config import CompressionConfig, parse_config
from qpruner_core.errors import BudgetInfeasibleError, CancelledError
from qpruner_core.events import CancelToken, Event, StageFinished
from qpruner_core.fitting.fit_files import DIRECTORY
from qpruner_core.loading import load_mixed_checkpoint
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.mixed_model import load_mixed_model, read_mixed_config
from qpruner_core.models import load_model
from qpruner_core.models.families import linear_shape
from qpruner_core.pipeline import compress
from qpruner_core.precisions import precisions

_RANKS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Ours:
    """A way to use ours; ``allocate``: settings of that stage that differ from the defaults."""

    name: str
    allocate: dict[str, Any] = field(default_factory=dict)

    def quantize(self, model: Path, calibration: Calibration, budget: int | None, work: Path) -> Quantized:
        """The model of the directory ``model`` in ``budget`` bytes, adapters included; without one as many as it takes.

        ``work``: where finished stages stay; rows that share it share their scores, and those beside it the fits of
        modules, which follow from the same settings. The adapters' rank is the largest of 8 (the default), 4, 2 and 1
        that leaves room for the weights.
        """
        _share_fits(work)
        last: BudgetInfeasibleError | None = None
        allowed = budget or stored_bytes(load_model(model)) - 1  # as many as the dense model is refused
        for rank in _RANKS:
            try:
                _run(self._config(model, calibration, allowed, rank), work)
            except BudgetInfeasibleError as error:
                last = error
                continue
            return _load(work / "quantize", rank)
        assert last is not None
        raise last

    def digest(self, model: Path, calibration: Calibration, budget: int | None) -> str:
        """What stands for all settings of the run that :meth:`quantize` begins with."""
        settings = self._config(model, calibration, budget or 2**62, _RANKS[0]).model_dump(
            mode="json", exclude={"model", "dataset"}
        )
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def _config(self, model: Path, calibration: Calibration, budget: int, rank: int) -> CompressionConfig:
        return parse_config(
            {
                "model": str(model),
                "dataset": str(calibration.file.resolve()),
                "target": "bitsandbytes",
                "memory_budget": budget,
                "sequence_length": calibration.length,
                "prune": {"ratio": 0.0},
                "score": {"calibration_sequences": calibration.sequences},
                "allocate": {"calibration_sequences": calibration.sequences, **self.allocate},
                "quantize": {"lora_rank": rank},
                "finetune": {"steps": 0},
            }
        )


def _run(config: CompressionConfig, work: Path) -> None:
    """Run the pipeline up to the quantized model and its adapters; what comes after it is measured by the benchmark."""
    cancel = CancelToken()

    def stop_when_quantized(event: Event) -> None:
        if isinstance(event, StageFinished) and event.stage == "quantize":
            cancel.cancel()

    try:
        compress(config, work / "never-written", work_dir=work, on_event=stop_when_quantized, cancel=cancel)
    except CancelledError:
        return


def _share_fits(work: Path) -> None:
    """Let the fits of ``work`` be those of the folder that it is in."""
    shared = work.parent.resolve() / DIRECTORY
    shared.mkdir(parents=True, exist_ok=True)
    work.mkdir(exist_ok=True)
    if not (work / DIRECTORY).exists():
        (work / DIRECTORY).symlink_to(shared, target_is_directory=True)


def _load(stage: Path, rank: int) -> Quantized:
    """Bytes are those of the model as a user loads it. To compute, its modules are plain 16-bit ones with the very
    weights that the quantized ones multiply with, and with their rounding of inputs: on a CPU much faster."""
    size = loaded_bytes(load_mixed_checkpoint(stage / "model", stage / "adapter"))
    plain = load_mixed_model(stage / "model", dequantize=True)
    mean = _mean_bits(plain, stage / "model")
    model = attach_adapter(plain, stage / "adapter").get_base_model()
    return Quantized(model, size, mean, f"storages of the loaded model, adapters of rank {rank} included")


def _mean_bits(model: PreTrainedModel, directory: Path) -> float:
    """Of the weights of the layers, constants left out, as peers count theirs."""
    _, precision, family = read_mixed_config(directory)
    kinds = precisions(precision)
    size = weights = 0
    for name, own in precision.precisions.items():
        if name.startswith(f"{family.layers}."):
            rows, columns = linear_shape(model.get_submodule(name))
            size, weights = size + kinds[own].weight_bytes(rows, columns), weights + rows * columns
    return 8 * size / weights
