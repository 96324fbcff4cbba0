from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from qpruner_core.cli import app
from qpruner_core.errors import UserError
from qpruner_core.evaluate.evaluate_checkpoint import evaluate_checkpoint
from qpruner_core.loading import load_compressed, load_mixed_checkpoint
from qpruner_core.measure.memory import loaded_bytes
from qpruner_core.mixed.mixed_model import load_mixed_model
from tests.core.pipeline.conftest import FinishedRun

IDS = torch.arange(3, 35).unsqueeze(0)


def test_the_exported_model_is_the_one_that_was_evaluated(finished_run: FinishedRun) -> None:
    work = finished_run.output.with_name("out.work")
    evaluated = load_mixed_checkpoint(work / "quantize" / "model", work / "finetune" / "adapter")
    model, tokenizer = load_compressed(finished_run.output / "mixed")
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, evaluated(IDS).logits)
    assert loaded_bytes(model) == finished_run.report.measurement("final").bytes
    assert tokenizer.decode(tokenizer("plain text")["input_ids"], skip_special_tokens=True) == "plain text"


def test_the_adapter_changes_what_the_model_says(finished_run: FinishedRun) -> None:
    model, _ = load_compressed(finished_run.output / "mixed")
    with torch.no_grad():
        with_adapter = model(IDS).logits
        with model.disable_adapter():  # type: ignore[operator]
            without = model(IDS).logits
    assert (with_adapter - without).abs().max() > 0.01


def test_the_merged_checkpoint_loads_where_our_package_is_not_imported_and_says_nearly_the_same(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    script = (
        "import sys, torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "assert not any(name.startswith(('qpruner_core', 'bitsandbytes')) for name in sys.modules)\n"
        "with torch.no_grad(): torch.save(model(torch.arange(3, 35).unsqueeze(0)).logits, sys.argv[2])\n"
        "model.generate(torch.arange(3, 9).unsqueeze(0), max_new_tokens=4)\n"
    )
    result = tmp_path / "logits.pt"
    subprocess.run(
        [sys.executable, "-c", script, str(finished_run.output / "merged"), str(result)],
        cwd=tmp_path, env={"PATH": "", "HF_HOME": str(tmp_path / "hf")}, check=True,
    )  # fmt: skip
    # INT8 modules round their inputs, the merged model does not: compare with the values they stand for
    base = load_mixed_model(finished_run.output / "mixed", dequantize=True)
    from qpruner_core.adapters import attach_adapter

    with torch.no_grad():
        expected = attach_adapter(base, finished_run.output / "mixed" / "adapter")(IDS).logits
    assert (torch.load(result) - expected).float().norm() < 0.03 * expected.float().norm()


def test_a_checkpoint_is_evaluated_on_text_and_choices(finished_run: FinishedRun, tmp_path: Path) -> None:
    text = tmp_path / "held_out.txt"
    text.write_text("\n\n".join(f"Statement {n} is executed when the condition is true." for n in range(60)))
    choices = tmp_path / "pick.jsonl"
    choices.write_text('{"context": "The value of the", "choices": ["expression", "zqxj"], "label": 0}\n' * 4)
    for name in ("mixed", "merged"):
        result = evaluate_checkpoint(
            finished_run.output / name, text, [choices], length=32, max_tokens=512, max_choices=3
        )
        assert result["tokens"] <= 512
        assert 1 < result["perplexity"] < 300
        assert 0 <= result["pick.acc"] <= 1


def test_a_file_that_cannot_be_evaluated_is_named_with_its_option(finished_run: FinishedRun, tmp_path: Path) -> None:
    text, choices, bad = tmp_path / "held_out.txt", tmp_path / "pick.jsonl", tmp_path / "bad.jsonl"
    text.write_text("Statement is executed when the condition is true. " * 60)
    choices.write_text('{"context": "The value of the", "choices": ["expression", "zqxj"], "label": 0}\n')
    bad.write_text('{"context": "The value of the", "choices": ["expression", "zqxj"], "label": 2}\n')
    for files, field in (((bad, []), "text"), ((text, [choices, bad]), "tasks"), ((text, [tmp_path / "no"]), "tasks")):
        with pytest.raises(UserError) as caught:
            evaluate_checkpoint(finished_run.output / "mixed", *files, length=32, max_tokens=64, max_choices=1)
        assert caught.value.field == field
        assert caught.value.message.count(str(tmp_path)) == 1


def test_an_example_that_is_longer_than_a_window_is_left_out_and_counted(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    text, choices = tmp_path / "held_out.txt", tmp_path / "pick.jsonl"
    text.write_text("Statement is executed when the condition is true. " * 60)
    long = json.dumps({"context": "The value of the", "choices": ["expression", "statement " * 600], "label": 0})
    choices.write_text('{"context": "The value of the", "choices": ["expression", "zqxj"], "label": 0}\n' + long + "\n")
    result = evaluate_checkpoint(
        finished_run.output / "mixed", text, [choices], length=512, max_tokens=1024, max_choices=9
    )  # fmt: skip
    assert (result["pick.left_out"], result["pick.acc_stderr"]) == (1, 0)


def test_more_tokens_than_the_model_has_positions_are_refused_before_they_are_generated(
    finished_run: FinishedRun,
) -> None:
    arguments = ["generate", str(finished_run.output / "mixed"), "--json", "--prompt"]
    for prompt, tokens, field in (("The value", 512, "max_new_tokens"), ("The " * 600, 1, "max_new_tokens")):
        done = CliRunner().invoke(app, [*arguments, prompt, "--max-new-tokens", str(tokens)])
        error = json.loads(done.stdout)["error"]
        assert (done.exit_code, error["field"]) == (2, field)
        assert "512" in error["message"]
    for tokens in (0, -1, 10**12):
        assert CliRunner().invoke(app, [*arguments, "The", f"--max-new-tokens={tokens}"]).exit_code == 2


def test_the_generation_settings_of_the_model_travel_along(finished_run: FinishedRun) -> None:
    stored = json.loads((finished_run.output / "mixed" / "generation_config.json").read_text())
    model, _ = load_compressed(finished_run.output / "mixed")
    assert model.generation_config.eos_token_id == stored["eos_token_id"]


@pytest.mark.parametrize(
    "text", ['{"num_return_sequences": 3}', '{"max_new_tokens": -1}', '{"watermarking_config": 5}', '{"a": 1, "a": 2}']
)
def test_generation_settings_that_transformers_refuses_do_not_end_a_run_that_loads_its_model(
    finished_run: FinishedRun, tmp_path: Path, text: str
) -> None:
    mixed = Path(shutil.copytree(finished_run.output / "mixed", tmp_path / "mixed"))
    (mixed / "generation_config.json").write_text(text)
    model, _ = load_compressed(mixed)
    assert model.generation_config.num_return_sequences in (None, 1)
    with torch.no_grad():
        assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
