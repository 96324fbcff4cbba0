"""The dense model's predictions on disk, and how far another model's are from them.

Both are computed in float32. In bfloat16 the rounding of activations and logits of two models that differ a little is
independent, and KL between them has a floor that is as large as what 6 bits per weight do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, stdev

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from bench.frontier.rows import Figures

Windows = Mapping[str, torch.Tensor]
"""By name of a text: token ids ``[windows, length]``, int64; the first of each window is not predicted."""
COMPUTED = "float32"
"""Type of activations and logits."""
_ROWS = 4
"""Tokens compared at a time: what they take fits the processor's cache."""


def keep_predictions(model: nn.Module, texts: Windows, file: Path) -> dict[str, Figures]:
    """Write the logits of ``model``, which is turned to float32, on ``texts`` to ``file``: float16 ``[length - 1,
    vocabulary]`` per window, and the logarithm of the sum of their exponentials, float32 ``[length - 1]``."""
    kept: dict[str, torch.Tensor] = {}
    found: dict[str, Figures] = {}
    for name, windows in texts.items():
        losses = []
        for index, (exact, wanted) in enumerate(_predicted(model, windows)):
            logits = exact.to(torch.float16)
            sums = torch.cat([rows.float().logsumexp(dim=-1) for rows in logits.split(_ROWS)])
            kept[f"{name}/{index}"], kept[f"{name}/{index}/sums"] = logits, sums
            losses.append(float((sums - _chosen(logits, wanted)).mean()))
        found[name] = Figures(perplexity=math.exp(fmean(losses)))
    partial = file.with_suffix(".part")
    save_file(kept, partial)
    partial.replace(file)
    return found


def compare(model: nn.Module, texts: Windows, file: Path) -> dict[str, Figures]:
    """Perplexity of ``model``, which is turned to float32, and its divergence from the model whose predictions on
    ``texts`` are in ``file``."""
    found: dict[str, Figures] = {}
    with safe_open(file, "pt") as stored:
        for name, windows in texts.items():
            losses, divergences, late, same = [], [], [], []
            for index, (logits, wanted) in enumerate(_predicted(model, windows)):
                dense, sums = stored.get_tensor(f"{name}/{index}"), stored.get_tensor(f"{name}/{index}/sums")
                divergence, own_sums = divergence_by_token(dense, sums, logits)
                losses.append(float((own_sums - _chosen(logits, wanted)).mean()))
                divergences.append(float(divergence.mean()))
                late.append(float(divergence[(len(divergence) + 1) // 2 :].mean()))
                same.append(float((dense.argmax(dim=-1) == logits.argmax(dim=-1)).float().mean()))
            found[name] = Figures(
                perplexity=math.exp(min(fmean(losses), 700.0)), divergence=fmean(divergences),
                error=stdev(divergences) / math.sqrt(len(divergences)) if len(divergences) > 1 else 0.0,
                windows=divergences, late=fmean(late), top1=fmean(same),
            )  # fmt: skip
    return found


def divergence_by_token(
    dense: torch.Tensor, sums: torch.Tensor, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(dense ‖ other) in nats of each token, and the log of the sum of exponentials of the other's logits, both
    float32 ``[tokens]``.

    With ``r``, ``a`` the two logits (``[tokens, vocabulary]``) it is ``Σ p (r − a) − log Σ exp(r) + log Σ exp(a)``,
    where ``p`` are the dense model's probabilities and ``sums`` its ``log Σ exp(r)``; computed in float32.
    """
    shape = (_ROWS, logits.shape[1])
    buffers = [torch.empty(shape, dtype=torch.float32) for _ in range(3)]
    found, own = torch.empty(len(logits)), torch.empty(len(logits))
    for start in range(0, len(logits), _ROWS):
        rows = slice(start, start + _ROWS)
        reference, other, difference = (buffer[: len(sums[rows])] for buffer in buffers)
        reference.copy_(dense[rows])
        other.copy_(logits[rows])
        torch.sub(reference, other, out=difference)
        probabilities = reference.sub_(sums[rows].unsqueeze(1)).exp_()
        highest = other.amax(dim=-1)
        own[rows] = other.sub_(highest.unsqueeze(1)).exp_().sum(dim=-1).log_() + highest
        found[rows] = torch.linalg.vecdot(probabilities, difference) - sums[rows] + own[rows]
    return found, own


@torch.no_grad()
def _predicted(model: nn.Module, windows: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits (float32) of each window and the tokens that they are predictions of."""
    model = model.float()
    for window in windows:
        logits = model(input_ids=window.unsqueeze(0), use_cache=False).logits[0, :-1]
        yield logits, window[1:]


def _chosen(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, wanted.unsqueeze(1)).squeeze(1).float()
