"""Export formats and names of the table's rows, for settings, output directory, worker and API. Imports no torch.

A new format is one entry of :data:`FORMATS` and one file beside this one, which holds its ``FORMAT``; see
:class:`qpruner_core.formats.base.ExportFormat`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

FINAL = "final"
"""Variant of the row that must meet the budget: that of the target's own format."""


@dataclass(frozen=True)
class Effort:
    """Work of reading or writing a format, for time estimates.

    ``loads`` and ``writes`` of the pruned model in 16 bits, attached adapters (``adapts``), modules fitted at one
    precision each (``fits``).
    """

    loads: float = 0.0
    adapts: float = 0.0
    writes: float = 0.0
    fits: float = 0.0


@dataclass(frozen=True)
class FormatDeclaration:
    """One format.

    ``name``: its name in ``export.formats``, and the module of its file. ``title``: description in half a sentence.
    ``variant`` and ``label``: of its row in the before/after table; ``FINAL`` for a target's own format. ``path``:
    directory or file in the output; default ``name``. ``suffix``: of a format that is one file (``.gguf``); empty for a
    directory, which is downloaded as a tar. ``targets``: targets that offer it; empty: all. ``quantized``: whether its
    modules compute on quantized weights when it is read back; ``adapted``: whether with adapters. ``write``, ``read``:
    their work. ``beside``: the format that it belongs to and is measured with; ``recovery``: the only
    ``finetune.recovery`` that produces it.
    """

    name: str
    title: str
    label: str
    variant: str
    path: str = ""
    suffix: str = ""
    targets: frozenset[str] = field(default_factory=frozenset)
    quantized: bool = True
    adapted: bool = False
    beside: str = ""
    recovery: str = ""
    write: Effort = Effort()
    read: Effort = Effort(loads=1.0)

    @property
    def place(self) -> str:
        """Its directory or file in the output."""
        return self.path or self.name + self.suffix

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, else one file."""
        return not self.suffix

    @property
    def artifact(self) -> str:
        """Name of its artifact of a job."""
        return f"{self.place}.tar" if self.is_directory else self.place

    @property
    def artifact_format(self) -> str:
        """File type of the artifact: ``tar``, or its own."""
        return "tar" if self.is_directory else self.suffix.removeprefix(".")


_BITSANDBYTES = frozenset({"bitsandbytes"})

FORMATS: tuple[FormatDeclaration, ...] = (
    FormatDeclaration(
        "gguf", title="one file for llama.cpp and Ollama", label="final, GGUF", variant=FINAL, path="model.gguf",
        suffix=".gguf", targets=frozenset({"gguf"}), quantized=False, write=Effort(writes=0.5), read=Effort(loads=2.0),
    ),
    FormatDeclaration(
        "gguf_adapter", title="the adapter of the GGUF file, for llama.cpp", label="adapter, GGUF",
        variant="gguf_adapter", path="adapter.gguf", suffix=".gguf", targets=frozenset({"gguf"}), quantized=False,
        beside="gguf", recovery="adapter", read=Effort(),
    ),
    FormatDeclaration(
        "compressed_tensors", title="for vLLM, SGLang and transformers", label="final, compressed-tensors",
        variant=FINAL, path="compressed-tensors", targets=frozenset({"compressed-tensors"}), quantized=False,
        write=Effort(writes=0.5), read=Effort(loads=2.0),
    ),
    FormatDeclaration(
        "mixed", title="every part at its precision, with adapters", label="final", variant=FINAL, adapted=True,
        read=Effort(loads=2.0, adapts=1.0), targets=_BITSANDBYTES,
    ),
    FormatDeclaration(
        "merged", title="one 16-bit model for any tool", label="final, merged into 16 bits", variant="merged",
        quantized=False, write=Effort(loads=1.5, adapts=1.0, writes=1.0),
    ),
    FormatDeclaration(
        "merged_quantized", title="mixed with the adapters merged in and quantized again; the loss is measured",
        label="final, adapters merged and quantized", variant="merged_quantized",
        write=Effort(loads=2.0, adapts=1.0, writes=0.25, fits=1.0), targets=_BITSANDBYTES,
    ),
)  # fmt: skip
"""In the order of offers, files and tables: the recommended one first."""

_ROWS = {
    "dense": "dense",
    "pruned": "pruned",
    "pruned_nf4": "pruned, uniform NF4",
    "mixed": "mixed precision, before recovery",
    FINAL: "final",
}
"""Names of the rows that do not depend on the export formats: the only place for command line, model card and page."""


def declared(name: str) -> FormatDeclaration:
    """The format called ``name``. Raises ``KeyError`` if there is none."""
    for one in FORMATS:
        if one.name == name:
            return one
    raise KeyError(name)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` without duplicates, in the order of :data:`FORMATS`. Raises ``KeyError`` for an unknown one."""
    wanted = {declared(name).name for name in names}
    return tuple(one.name for one in FORMATS if one.name in wanted)


def of_artifact(artifact: str) -> FormatDeclaration | None:
    """The format of an ``artifact``; ``None`` for a document."""
    return next((one for one in FORMATS if one.artifact == artifact), None)


def with_own_format(formats: Iterable[str], target: str, recovery: str) -> tuple[str, ...]:
    """The ``formats`` that a run for ``target`` writes if these are named, or none.

    The target's own format is always included, unless it has adapters and only others are named. By default a target
    with adapters also gets the merged model. Own formats that need another ``recovery`` are left out.
    """
    own = [one for one in FORMATS if one.variant == FINAL and target in one.targets]
    named = set(formats)
    if not named:
        named = {one.name for one in own} | {"merged" for one in own if one.adapted}
    parts = {one.name for one in FORMATS if one.recovery and one.recovery == recovery and target in one.targets}
    return in_order(named | {one.name for one in own if not one.adapted} | parts)


def offered_by(target: str, recovery: str | None = None) -> tuple[FormatDeclaration, ...]:
    """Formats that a run for ``target`` with this ``recovery`` (``None``: any) may write."""
    return tuple(
        one
        for one in FORMATS
        if (not one.targets or target in one.targets) and (recovery is None or one.recovery in ("", recovery))
    )


def label_of(variant: str) -> str:
    """Name of the row of ``variant`` for reports without labels; an unknown ``variant`` is returned as it is."""
    return _ROWS.get(variant) or next((one.label for one in FORMATS if one.variant == variant), variant)
