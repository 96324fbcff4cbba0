"""The type of matrix products, as a setting and as reported; imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qpruner_core.strict import StrictModel

if TYPE_CHECKING:
    import torch

ProductDtype = Literal["bfloat16", "float16", "float32"]
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]


class Compute(StrictModel):
    """Type of matrix products and processor of a run.

    ``products``: the type of matrix products. ``reason``: why that type, in a sentence. ``processor``: model of the CPU
    or GPU. ``threads``: CPU threads.
    """

    products: ProductDtype
    reason: str
    processor: str
    threads: int

    @property
    def dtype(self) -> torch.dtype:
        """``products`` as a torch dtype."""
        import torch

        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[self.products]
