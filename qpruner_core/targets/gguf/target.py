"""GGUF: llama.cpp, Ollama and other programs with ggml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.errors import QPrunerError
from qpruner_core.finetune.config import Recovery
from qpruner_core.models.families import Family
from qpruner_core.precisions import Precision
from qpruner_core.precisions.ggml import GGML
from qpruner_core.prune.config import PruneConfig
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.base import Shape, Target
from qpruner_core.targets.config import TargetName
from qpruner_core.targets.gguf.adapter import adapter_shapes
from qpruner_core.targets.gguf.loaders import LOADERS, supports
from qpruner_core.targets.gguf.plan import planned_tensors
from qpruner_core.targets.gguf.refusal import STOCK_LAYOUT, Refusal
from qpruner_core.targets.gguf.tokenizer import supports_tokenizer

SUPER_BLOCK = 256
"""Weights of a block of K-quants."""

_FALLBACKS = {
    **dict.fromkeys(("iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "q3_k", "iq3_s", "iq4_xs", "q4_k"), "iq4_nl"),
    "q5_k": "q5_0",
    "q6_k": "q5_1",
}
"""Formats with blocks of 32 that replace those of 256 if a row is not a multiple of that; of about the same size, but
none has fewer than 4.5 bits."""


class Gguf(Target):
    """Every format of ggml that llama.cpp computes with; embeddings and head in any of them; by default no adapters."""

    name: ClassVar[TargetName] = "gguf"
    default_recovery: ClassVar[Recovery] = "scales"
    default_options: ClassVar[tuple[str, ...]] = (
        "iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "iq3_s", "q3_k", "iq4_xs", "q4_k", "q4_1", "q5_k", "q6_k", "q8_0", "bf16",
    )  # fmt: skip

    def stored_as(self, name: str, shapes: Sequence[Shape]) -> str:
        """``name``, or a format of shorter blocks, or 16 bits if rows are not a multiple of 32."""
        for candidate in (name, _FALLBACKS.get(name, name)):
            if all(self.precisions[candidate].accepts(*shape) for shape in shapes):
                return candidate
        return "bf16"

    def unquantized_bytes(self, config: PretrainedConfig, model: PreTrainedModel) -> dict[str, int]:
        """Bytes in the file: norms, biases and other vectors in 32 bits; factors of rotary positions too."""
        sizes: dict[str, int] = {}
        for tensor in planned_tensors(config, lambda name: GGML["bf16"].type):
            names = tensor.parameters or [tensor.name]
            for name in names:
                sizes[name] = sizes.get(name, 0) + tensor.bytes // len(names)
        return sizes

    def adapter_shapes(self, config: PretrainedConfig, shapes: Mapping[str, Shape]) -> Mapping[str, Shape]:
        """A module that is split into several tensors of the file has its ``A`` once for each."""
        return adapter_shapes(config, shapes)

    def refusal(self, config: PretrainedConfig, family: Family) -> QPrunerError | None:
        """Reason why llama.cpp cannot run a model of ``config``."""
        found = supports(config)
        return None if found is None else found.error()

    def adapted(
        self, prune: PruneConfig, dense: PretrainedConfig, family: Family
    ) -> tuple[PruneConfig, tuple[str, ...]]:
        """One width for all layers if llama.cpp's graph requires it; MLP widths that K-quants support.

        Raises:
            UnsupportedByTargetError: another layout was given that gives layers different widths.
        """
        changes: dict[str, object] = {}
        notes: list[str] = []
        by_layer = any(loader.by_layer for loader in LOADERS.get(family.model_type, ()))
        if prune.layout == "global" and family.model_type in LOADERS and not by_layer:
            raise Refusal(
                f"In llama.cpp all layers of {family.model_type} models have the same width, but the layout "
                "global gives each its own.",
                STOCK_LAYOUT,
                "prune.layout",
            ).error()
        if prune.layout == "same_ratio" and not by_layer:
            changes["layout"] = "stock"
            notes.append(
                f"prune.layout is stock, not same_ratio: in llama.cpp all layers of {family.model_type} models "
                "have the same width."
            )
        widths = {layer.intermediate_size for layer in family.widths(dense)}
        default = PruneConfig.model_fields["width_multiple"].default
        if prune.width_multiple == default and all(w % SUPER_BLOCK == 0 and w >= 4 * SUPER_BLOCK for w in widths):
            changes["width_multiple"] = SUPER_BLOCK
            notes.append(
                f"prune.width_multiple is {SUPER_BLOCK}, not {default}, so that down projections can be in K-quants."
            )
        return prune.model_copy(update=changes), tuple(notes)

    def tokenizer_refusal(self, directory: Path, vocabulary: int) -> QPrunerError | None:
        """Reason why a GGUF file cannot carry the tokenizer."""
        found = supports_tokenizer(directory, vocabulary)
        return None if found is None else found.error()

    def _precisions(self, quantize: QuantizeConfig) -> Mapping[str, Precision]:
        return dict(GGML)
