"""Run on its own: load every checkpoint of a directory where our package cannot be imported, and write its logits.

Arguments: the directory, with checkpoints at <family>/<layout>/<dtype> and ``ids.pt``; the file for the logits (place
of the checkpoint -> tensor, or what went wrong); threads of torch. A checkpoint with a modeling file is trusted to run
it, a stock one is not. In float32, what was trusted is also saved again and loaded from there, as <place>/again.
"""

import gc
import sys
import traceback
from pathlib import Path

sys.modules["qpruner_core"] = None  # any import of it fails
gc.disable()  # collections take a fifth of the time of the imports

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedModel  # noqa: E402

gc.freeze()
gc.enable()


def load(checkpoint: Path, dtype: str) -> PreTrainedModel:
    trusted = any(checkpoint.glob("*.py"))
    return AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=getattr(torch, dtype), trust_remote_code=trusted, local_files_only=True
    )


def main(directory: Path, answers_file: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    ids = torch.load(directory / "ids.pt")
    answers: dict[str, torch.Tensor | str] = {}
    for checkpoint in sorted(directory.glob("*/*/*")):
        place = checkpoint.relative_to(directory).as_posix()
        try:
            with torch.no_grad():
                model = load(checkpoint, checkpoint.name)
                answers[place] = model(ids).logits
                if any(checkpoint.glob("*.py")) and checkpoint.name == "float32":
                    model.save_pretrained(checkpoint / "again")
                    answers[f"{place}/again"] = load(checkpoint / "again", checkpoint.name)(ids).logits
        except Exception:  # noqa: BLE001 - the test of this checkpoint shows it
            answers[place] = traceback.format_exc()
    assert [name for name, module in sys.modules.items() if name.startswith("qpruner") and module is not None] == []
    torch.save(answers, answers_file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
