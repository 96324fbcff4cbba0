"""Moments of inputs in files, as rounding with error feedback uses them: the score stage computes them, and the fits of
every budget read them.

A file holds the moments of one input, which several modules may share: the upper triangle of the inverse root by rows,
float32 ``[in · (in + 1) / 2]``, and the diagonal of the sums. Those of all modules take about as much as the model in
16 bits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from qpruner_core.forward.input_moments import InputMoments

MomentsOfModules = tuple[list[str], InputMoments | None]
"""Full names of modules with the same inputs, and the moments of these; ``None``: there are none."""


class _Stored(InputMoments):
    """Moments of which the diagonal ``[in]`` and the inverse root ``[in, in]`` are known, and the sums are not."""

    def __init__(self, diagonal: torch.Tensor, inverse_root: torch.Tensor, tokens: int) -> None:
        super().__init__(torch.empty(0, device=diagonal.device), tokens)
        self.diagonal = diagonal
        self.inverse_root = inverse_root


class KeptMoments:
    """Moments in the files of ``directory``, which need not exist; all are of one model, text and damping. They are
    read to ``device``."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        self._directory = directory
        self._device = device

    def those_of(
        self, wanted: Iterable[str], missing: Callable[[Sequence[str]], Iterator[MomentsOfModules]], *, keep: bool
    ) -> Iterator[MomentsOfModules]:
        """Moments of the modules ``wanted``, those that share them together; ``missing`` finds those without a file,
        and they get one if they are to be kept."""
        left = dict.fromkeys(wanted)
        for path in sorted(self._directory.glob("*.safetensors")):
            own = [name for name in _modules(path) if name in left]
            if own:
                for name in own:
                    del left[name]
                yield own, self._read(path)
        for names, moments in missing(list(left)) if left else ():
            if keep and moments is not None and moments.any:
                self._write(names, moments)
            yield names, moments

    def _write(self, names: Sequence[str], moments: InputMoments) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{names[0]}.safetensors"
        partial = path.with_suffix(f".{os.getpid()}.partial")
        root = moments.inverse_root.cpu()
        packed = torch.cat([row[index:] for index, row in enumerate(root)])
        about = {"modules": json.dumps(list(names)), "tokens": str(moments.tokens)}
        save_file({"inverse_root": packed, "diagonal": moments.diagonal.cpu().contiguous()}, partial, about)
        partial.replace(path)

    def _read(self, path: Path) -> InputMoments:
        with safe_open(path, framework="pt") as file:
            packed, diagonal = file.get_tensor("inverse_root"), file.get_tensor("diagonal")
            tokens = int(file.metadata()["tokens"])
        count = len(diagonal)
        root = torch.zeros(count, count)
        for index, part in enumerate(packed.split(list(range(count, 0, -1)))):
            root[index, index:] = part
        return _Stored(diagonal.to(self._device), root.to(self._device), tokens)


def _modules(path: Path) -> list[str]:
    """The modules whose moments are in the file of ``path``; none if it was cut off by a loss of power."""
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = json.loads(file.metadata()["modules"])
            return names
    except (OSError, SafetensorError):
        return []
