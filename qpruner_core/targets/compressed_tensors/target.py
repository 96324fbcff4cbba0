"""compressed-tensors: vLLM, SGLang and transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from transformers import PretrainedConfig, PreTrainedModel

from qpruner_core.errors import QPrunerError, UnsupportedByTargetError
from qpruner_core.finetune.config import Recovery
from qpruner_core.models.families import Family
from qpruner_core.precision_names import UNQUANTIZED
from qpruner_core.precisions import Precision, precisions
from qpruner_core.precisions.compressed_tensors import QUANTIZED
from qpruner_core.quantize.config import QuantizeConfig
from qpruner_core.targets.base import Shape, Target
from qpruner_core.targets.compressed_tensors.support import fitting, fused_paths, fused_with, supports
from qpruner_core.targets.config import RunsOn, TargetName, has_kernel


class CompressedTensors(Target):
    """Integers in groups with 16-bit scales, and 16 bits; embeddings and head stay in 16 bits, no adapters.

    transformers cannot load quantized embeddings, and vLLM has none on a CPU.
    """

    name: ClassVar[TargetName] = "compressed-tensors"
    default_options: ClassVar[tuple[str, ...]] = ("int4_g128", "int4_g64", "int4_g32", "int8_channel", "bf16")
    _with_humming: ClassVar[tuple[str, ...]] = ("int3_g64", "int5_g64", "int6_g64")
    default_recovery: ClassVar[Recovery] = "scales"

    def stored_as(self, name: str, shapes: Sequence[Shape]) -> str:
        """``name``, or smaller groups, or 16 bits if the rows of any of them are not a multiple of the group."""
        return fitting(name, shapes)

    def fused(self, modules: Sequence[str]) -> list[int]:
        """vLLM fuses queries, keys and values, and gate and up."""
        keys = [fused_with(module) for module in modules]
        return [keys.index(key) for key in keys]

    def together(self, family: Family) -> Sequence[frozenset[str]]:
        """Queries, keys and values; gate and up."""
        return [frozenset(paths) for paths in fused_paths(family)]

    def unquantized_bytes(self, config: PretrainedConfig, model: PreTrainedModel) -> dict[str, int]:
        """Two bytes per parameter: the file has no buffers."""
        return {name: 2 * parameter.numel() for name, parameter in model.named_parameters()}

    def refusal(self, config: PretrainedConfig, family: Family) -> QPrunerError | None:
        """Reason why this format cannot hold a model of ``config``."""
        reason = supports(config)
        if reason is None:
            return None
        return UnsupportedByTargetError(
            f"The target compressed-tensors does not support {family.model_type} models: {reason}.",
            field="target",
            remedy="Choose another target.",
        )

    def _precisions(self, quantize: QuantizeConfig) -> Mapping[str, Precision]:
        return {**QUANTIZED, UNQUANTIZED: precisions(quantize)[UNQUANTIZED]}

    def _default_options(self, runs_on: RunsOn) -> tuple[str, ...]:
        """Precisions with vLLM kernels there. On a CPU its 8 bits also round the inputs, and are not for the base of an
        adapter, because vLLM cannot attach one to them there."""
        options = self.default_options
        if runs_on == "gpu+humming":
            options += self._with_humming
        if runs_on == "cpu" and not self.adapter_rank:
            options += ("int8_w8a8",)
        return tuple(name for name in options if has_kernel(self.name, runs_on, name))

    def _embedding_options(self) -> tuple[str, ...]:
        return (UNQUANTIZED,)
