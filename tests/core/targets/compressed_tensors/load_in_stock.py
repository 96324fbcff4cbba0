"""Run on its own: load checkpoints by stock transformers where our package cannot be imported, and write their logits.

Arguments: the directory with checkpoints and ``ids.pt``; the file for the logits (name -> tensor or what went wrong).
"""

import gc
import sys
import traceback
from pathlib import Path

sys.modules["qpruner_core"] = None  # any import of it fails
gc.disable()  # collections take a fifth of the time of the imports

import torch  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

gc.freeze()
gc.enable()


def main(directory: Path, answers_file: Path) -> None:
    torch.set_num_threads(1)
    ids = torch.load(directory / "ids.pt")
    answers: dict[str, torch.Tensor | str] = {}
    for config in sorted(directory.glob("*/config.json")):
        checkpoint = config.parent
        try:
            trusted = any(checkpoint.glob("*.py"))
            adapted = (checkpoint / "adapter").is_dir()
            model = AutoModelForCausalLM.from_pretrained(
                checkpoint,
                dtype=torch.bfloat16,
                trust_remote_code=trusted,
                local_files_only=True,
            )
            if adapted:
                model.hf_quantizer.compressor.decompress_model(model)  # PEFT needs modules with a plain weight
                model = PeftModel.from_pretrained(model, checkpoint / "adapter", autocast_adapter_dtype=False)
            with torch.no_grad():
                answers[checkpoint.name] = model.eval()(ids).logits
        except Exception:  # noqa: BLE001 - the test of this checkpoint shows it
            answers[checkpoint.name] = traceback.format_exc()
    assert [name for name, module in sys.modules.items() if name.startswith("qpruner") and module is not None] == []
    torch.save(answers, answers_file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
