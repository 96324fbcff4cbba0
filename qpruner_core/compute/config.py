"""The type of matrix products, as it is set and as it is reported; needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qpruner_core.strict import StrictModel

if TYPE_CHECKING:
    import torch

ProductDtype = Literal["bfloat16", "float16", "float32"]
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]


class Compute(StrictModel):
    """What a run computes with.

    ``products``: the type of matrix products. ``reason``: why that type, in a sentence. ``processor``: model of the CPU
    or GPU. ``threads``: CPU threads.
    """

    products: ProductDtype
    reason: str
    processor: str
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """``products`` as torch names it."""
        import torch

        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[self.products]
