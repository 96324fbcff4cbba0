"""What all rows of a model share: the dense model off the grid, its texts, its predictions, the calibration text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from bench.frontier.amounts import Amounts
from bench.frontier.predictions import Windows, keep_predictions
from bench.frontier.rows import FrontierRow, SourceRow
from bench.off_grid import q4_error, write_dense_gguf, write_off_grid
from bench.study.comparing import parameter_bytes
from bench.study.rows import RowFolder
from bench.study.texts import Texts, calibration_windows, evaluated_windows
from qpruner_core.garbage import free_garbage
from qpruner_core.models import load_model, load_tokenizer, resolve_model
from qpruner_core.source_policy import SourcePolicy

SMOLLM2, GEMMA3 = "SmolLM2-135M", "Gemma 3 270M"
DENSE = "dense"
_PROBE = 64
"""Tokens that the model before and the model off the grid are compared on."""


@dataclass(frozen=True)
class Workplace:
    """The files of ``model`` in ``folder``."""

    model: str
    folder: Path

    @property
    def dense(self) -> Path:
        """The checkpoint in bfloat16."""
        return self.folder / "dense"

    @property
    def gguf(self) -> Path:
        """The same as a GGUF file."""
        return self.folder / "dense.gguf"

    @property
    def calibration(self) -> Path:
        """The text that calibrates."""
        return self.folder / "calibration.txt"

    @property
    def sequences(self) -> Path:
        """Its first sequences as ids: JSON, a list per sequence."""
        return self.folder / "calibration.json"

    @property
    def imatrix(self) -> Path:
        """llama.cpp's importance matrix of that text."""
        return self.folder / "imatrix.gguf"

    @property
    def predictions(self) -> Path:
        """Of the dense model on the texts; see :mod:`bench.frontier.predictions`."""
        return self.folder / "predictions.safetensors"

    @property
    def made(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "made"

    @property
    def rows(self) -> RowFolder:
        """The figures so far."""
        return RowFolder(self.folder / "rows")

    def windows(self) -> Windows:
        """The texts that models are measured on."""
        windows: Windows = load_file(self.folder / "windows.safetensors")
        return windows

    def text(self, name: str) -> Path:
        """The text ``name`` itself."""
        return self.folder / f"{name.replace(' ', '-')}.txt"


def prepare(
    model: str, folder: Path, texts: Texts, amounts: Amounts, gemma: Path | None
) -> tuple[Workplace, SourceRow]:
    """Make whatever ``folder`` lacks; ``gemma``: Gemma's GGUF file, if it is on this machine already."""
    place = Workplace(model, folder)
    place.made.mkdir(parents=True, exist_ok=True)
    source = place.rows.find(SourceRow, "source") or _off_grid(place, gemma)
    if not place.gguf.is_file():
        write_dense_gguf(place.dense, place.gguf)
    if not place.predictions.is_file():
        _write_texts(place, texts, amounts)
        place.rows.keep(DENSE, _dense_row(place))
    return place, source


def _dense_row(place: Workplace) -> FrontierRow:
    model = load_model(place.dense)
    size = parameter_bytes(model)
    texts = keep_predictions(model, place.windows(), place.predictions)
    return FrontierRow(
        model=place.model, name=DENSE, maker="none", group=DENSE, settings="bfloat16", bytes=size, texts=texts
    )


def _off_grid(place: Workplace, gemma: Path | None) -> SourceRow:
    """Write the model off the grid, and measure what that changed."""
    if place.model == SMOLLM2:
        reference, said = "demo:smollm2-135m-instruct", "a Q4_1 file"
    else:
        from bench.gemma3 import fetch  # brings the demo's client along, which evaluation needs not

        reference, said = str(gemma or fetch(place.folder)), "a Q4_K_M file"
    source = resolve_model(reference, SourcePolicy(cache_dir=place.folder / "cache")).directory
    write_off_grid(source, place.dense)
    before, after = load_model(source), load_model(place.dense)
    row = SourceRow(
        model=place.model,
        source=said,
        bytes=parameter_bytes(after),
        weights=sum(parameter.numel() for parameter in after.parameters()),
        error_before=_mean_error(before),
        error_after=_mean_error(after),
        divergence=_difference(before, after),
    )
    place.rows.keep("source", row)
    return row


def _mean_error(model: PreTrainedModel) -> float:
    """Of the linear modules in the layers."""
    errors = [
        q4_error(parameter)
        for name, parameter in model.named_parameters()
        if ".layers." in name and parameter.ndim == 2
    ]
    return sum(errors) / len(errors)


@torch.no_grad()
def _difference(before: PreTrainedModel, after: PreTrainedModel) -> float:
    """KL in nats per token on arbitrary tokens, computed in float32: the weights alone are rounded."""
    ids = torch.arange(_PROBE).mul(97).add(1000).unsqueeze(0)
    reference, other = (model.float()(input_ids=ids).logits[0].log_softmax(dim=-1) for model in (before, after))
    return float((reference.exp() * (reference - other)).sum(dim=-1).mean())


def _write_texts(place: Workplace, texts: Texts, amounts: Amounts) -> None:
    tokenizer = load_tokenizer(place.dense)
    documents = next(iter(texts.calibration.values()))
    place.calibration.write_text("\n\n".join(documents), encoding="utf-8")
    sequences = calibration_windows(tokenizer, documents, sequences=amounts.sequences, length=amounts.length)
    place.sequences.write_text(json.dumps(sequences.tolist()), encoding="utf-8")
    windows = {}
    for name, text in texts.evaluated.items():
        place.text(name).write_text(text, encoding="utf-8")
        windows[name] = evaluated_windows(tokenizer, text, amounts.tokens[place.model], name).contiguous()
    save_file(windows, place.folder / "windows.safetensors")
    free_garbage()
