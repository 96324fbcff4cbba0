"""One GGUF file, for llama.cpp, Ollama and other programs with ggml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from qpruner_core.adapters import require_acting_adapter
from qpruner_core.formats.base import CheckpointFacts, ExportFormat
from qpruner_core.formats.declarations import declared
from qpruner_core.measure.llama_cpp import llama_cpp_speed
from qpruner_core.measure.speed import Speed
from qpruner_core.mixed.mixed_model import read_mixed_config
from qpruner_core.mixed.recovered import recovered_model
from qpruner_core.models.gguf.split import read_model
from qpruner_core.models.shards import StoredTensors
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.precisions.ggml import GGML
from qpruner_core.report import Snippet
from qpruner_core.stage import StageContext
from qpruner_core.stage_summaries import pruning_of
from qpruner_core.targets.gguf import PackedTensor, about_model, read_gguf, read_with_adapter, write_gguf

_ADAPTER = "gguf_adapter"
"""The format that is read and counted together with this one if it was written."""


class GgufFile(ExportFormat):
    """The recovered model in ggml's formats, with tokenizer, chat template and origin in the same file."""

    name = "gguf"

    def write(self, context: StageContext, output: Path, max_shard_size: int) -> None:
        directory, _ = recovered_model(context)
        config, precision, _ = read_mixed_config(directory)
        about = about_model(
            Path(context.config.model).name,
            source=context.source.origin["model"] or "",
            pruned=_what_was_pruned(context),
            recipe=context.store.key("finetune"),
        )
        with StoredTensors(directory) as stored:
            weights = _Weights(stored, precision.precisions)
            write_gguf(
                self.place(output), config=config, weights=weights, tokenizer_directory=directory, metadata=about
            )

    def load(self, output: Path, device: str | torch.device) -> nn.Module:
        adapter = self._adapter(output)
        if adapter is None:
            alone: nn.Module = read_gguf(self.place(output)).to(device)
            return alone
        model = read_with_adapter(self.place(output), adapter)
        require_acting_adapter(model.to(device))
        adapted: nn.Module = model
        return adapted

    def held_bytes(self, output: Path, model: nn.Module) -> int:
        files = [self.place(output)] if (adapter := self._adapter(output)) is None else [self.place(output), adapter]
        return sum(tensor.size for file in files for tensor in read_model(file).tensors.values())

    def engine_speed(self, output: Path, new_tokens: int, *, gpu: bool, look: Callable[[], None]) -> Speed | None:
        if self._adapter(output) is not None:
            return None  # llama-bench would time the base alone
        return llama_cpp_speed(self.place(output), new_tokens, gpu=gpu, look=look)

    def snippets(self, facts: CheckpointFacts) -> tuple[Snippet, ...]:
        file = self.declaration.place
        if facts.adapter_rank:
            command = f"llama-server -m {file} --lora {declared(_ADAPTER).place}"
            return (Snippet(tool="llama.cpp", language="shell", text=command),)
        return (
            Snippet(tool="llama.cpp", language="shell", text=f"llama-server -m {file}"),
            Snippet(
                tool="Ollama",
                language="shell",
                text=f"echo FROM ./{file} > Modelfile\nollama create compressed\nollama run compressed",
            ),
        )

    def description(self, facts: CheckpointFacts) -> str:
        file, what = self.declaration.place, "base" if facts.adapter_rank else "whole model"
        return f"`{file}` is the {what} in one file, each part in its own format of ggml."

    def _adapter(self, output: Path) -> Path | None:
        """The adapter that completes the model, if recovery made one."""
        path = output / declared(_ADAPTER).place
        return path if path.is_file() else None


class _Weights(Mapping[str, torch.Tensor | PackedTensor]):
    """Parameters of a mixed checkpoint by name, read on access."""

    def __init__(self, stored: StoredTensors, precisions: Mapping[str, str]) -> None:
        self._stored = stored
        self._types = {
            f"{module}.weight": GGML[kind].type for module, kind in precisions.items() if kind != UNQUANTIZED
        }

    def __getitem__(self, name: str) -> torch.Tensor | PackedTensor:
        tensor = self._stored.get(name)
        return PackedTensor(tensor, self._types[name]) if name in self._types else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored.names())

    def __len__(self) -> int:
        return len(self._stored.names())


def _what_was_pruned(context: StageContext) -> str:
    pruning = pruning_of(context)
    if pruning.removed_fraction == 0:
        return ""
    return (
        f"{pruning.removed_fraction:.1%} of the parameters of the decoder layers were removed by {pruning.criterion}."
    )


FORMAT = GgufFile()
