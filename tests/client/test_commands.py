"""``qpruner jobs``, ``datasets`` and ``servers`` against a real service."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from app.commands import jobs as jobs_commands
from app.jobs.logs import keep_log
from qpruner_client import Retries, profiles
from qpruner_core import cli as core
from tests.app import seeded_jobs
from tests.app.live_service import Service
from tests.client.conftest import CONTENT
from tests.client.test_following import end, running_job
from tests.client.test_requests import run_of
from tests.server_processes import free_port
from tests.uploading import checks_of

pytestmark = pytest.mark.service


@pytest.fixture(autouse=True)
def at_the_service(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_SERVERS_FILE", str(tmp_path / "config" / "servers.toml"))
    monkeypatch.delenv("QPRUNER_API_KEY", raising=False)
    monkeypatch.delenv("QPRUNER_SERVER", raising=False)
    if "service" in request.fixturenames:
        service: Service = request.getfixturevalue("service")
        monkeypatch.setenv("QPRUNER_SERVER", service.url)


def qpruner(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=input, env={"COLUMNS": "200"})


def printed(*arguments: str) -> str:
    answer = qpruner(*arguments)
    assert answer.exit_code == 0, answer.output
    return answer.stdout.strip()


def test_the_commands_import_neither_torch_nor_the_parts_of_a_service() -> None:
    heavy = "{'torch', 'transformers', 'sqlalchemy', 'fastapi', 'celery'}"
    script = f"import sys; from app.cli import app; print(*({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


def test_submit_takes_every_option_of_compress() -> None:
    compress, submit = (set(inspect.signature(one).parameters) for one in (core.compress, jobs_commands.submit))
    assert compress - submit == {"output"}


def test_a_job_is_submitted_from_a_file_with_a_local_dataset_and_managed(
    service: Service, sources: Path, tmp_path: Path
) -> None:
    run = run_of(sources)
    (tmp_path / "job.yaml").write_text(json.dumps(run | {"dataset": "elsewhere"}))
    options = ["--config", str(tmp_path / "job.yaml"), "--dataset", str(sources / "text.txt"), "--label", "team=search"]
    job_id = printed("jobs", "submit", *options, "--idempotency-key", "mine", "--seed", "5")
    job = json.loads(printed("jobs", "show", job_id, "--json"))
    assert (job["config"]["seed"], job["labels"], job["config"]["prune"]["ratio"]) == (5, {"team": "search"}, 0.1)
    (dataset,) = json.loads(printed("datasets", "list", "--json"))
    assert job["dataset"] == dataset["id"]
    assert job_id in printed("jobs", "list", "--search", "team:SEA")
    assert job_id in printed("jobs", "list", "--label", "team=search", "--status", "queued")
    assert job_id not in printed("jobs", "list", "--label", "team=other")
    refused = qpruner("datasets", "delete", dataset["id"])
    assert (refused.exit_code, "dataset_in_use" in refused.stderr) == (2, True)
    assert "is cancelled" in printed("jobs", "cancel", job_id)
    assert "is queued" in printed("jobs", "retry", job_id)
    assert qpruner("jobs", "delete", job_id).exit_code == 2
    printed("jobs", "cancel", job_id)
    assert "is deleted" in printed("jobs", "delete", job_id)
    printed("datasets", "delete", dataset["id"])
    uploaded = printed("datasets", "upload", str(sources / "text.txt"))
    assert uploaded.startswith("ds_")


def test_models_are_uploaded_shown_and_deleted(service: Service, sources: Path) -> None:
    checks = checks_of(service.app, service.app.state.settings)
    checks.start()
    model_id = printed("models", "upload", str(sources / "model"), "--name", "mine")
    assert model_id.startswith("md_")
    shown = printed("models", "show", model_id)
    assert "ready" in shown
    assert "model.safetensors" in shown
    (listed,) = json.loads(printed("models", "list", "--json"))
    assert (listed["id"], listed["name"], listed["status"]) == (model_id, "mine", "ready")
    assert model_id in printed("models", "list")
    assert "is deleted" in printed("models", "delete", model_id)
    absent = qpruner("models", "show", model_id)
    assert (absent.exit_code, "model_not_found" in absent.stderr) == (2, True)
    unreadable = qpruner("models", "upload", str(sources / "text.txt"))
    assert (unreadable.exit_code, "upload_failed" in unreadable.stderr) == (1, True)
    checks.stop()


def test_a_local_model_that_the_service_cannot_read_is_uploaded_and_submitted(
    service: Service, sources: Path, tmp_path: Path
) -> None:
    run = run_of(sources)
    folder = tmp_path / "own"
    shutil.copytree(sources / "model", folder)
    (tmp_path / "job.json").write_text(json.dumps(run | {"model": str(folder)}))
    checks = checks_of(service.app, service.app.state.settings)
    checks.start()
    job_id = printed("jobs", "submit", "--config", str(tmp_path / "job.json"))
    (model,) = json.loads(printed("models", "list", "--json"))
    assert json.loads(printed("jobs", "show", job_id, "--json"))["model"] == model["id"]
    readable = printed("jobs", "submit", str(sources / "model"), "--config", str(tmp_path / "job.json"))
    assert json.loads(printed("jobs", "show", readable, "--json"))["model"] == str(sources / "model")
    checks.stop()


def test_a_recipe_is_submitted_with_what_it_expects(service: Service, sources: Path, tmp_path: Path) -> None:
    from qpruner_core.config import parse_config

    config = parse_config(run_of(sources))
    recipe = {
        "config": config.model_dump(mode="json"), "files": [], "machine": {"compute_dtype": "float32"},
        "model": {"digest": "a" * 64}, "dataset": {"sha256": "b" * 64}, "recovery_loss": "distillation",
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    answer = qpruner("jobs", "submit", "--config", str(tmp_path / "recipe.json"))
    assert (answer.exit_code, "other_inputs" in answer.stderr) == (2, True)  # the upload is another text


def test_watching_ends_with_the_job_and_the_exit_code_says_how(service: Service, tmp_path: Path) -> None:
    job_id = running_job(service)
    threading.Timer(0.3, lambda: end(service, job_id)).start()
    answer = qpruner("jobs", "watch", job_id)
    assert (answer.exit_code, "allocate: started" in answer.stderr) == (130, True)
    with service.app.state.session_factory.begin() as session:
        failed = seeded_jobs.add_failed_job(session).id
    answer = qpruner("jobs", "watch", failed)
    assert (answer.exit_code, "finetune.learning_rate" in answer.stderr) == (1, True)
    assert "NaN at step 31" in printed("jobs", "show", failed)


def test_logs_are_followed_until_the_job_has_ended(service: Service) -> None:
    job_id = running_job(service)

    def print_and_end() -> None:
        with service.app.state.session_factory.begin() as session:
            keep_log(session, job_id, 2, b"first\nlast", 10)
        end(service, job_id)

    with service.app.state.session_factory.begin() as session:
        keep_log(session, job_id, 2, b"first\n 10%", 10)
    threading.Timer(0.3, print_and_end).start()
    assert printed("jobs", "logs", job_id, "--follow") == "first\nlast"
    refused = qpruner("jobs", "logs", job_id, "-f", "--attempt", "1")
    assert (refused.exit_code, "--attempt" in refused.stderr) == (2, True)


def test_a_finished_job_is_shown_and_its_files_downloaded(
    service: Service, finished_job: Callable[..., str], tmp_path: Path
) -> None:
    job_id = finished_job()
    shown = printed("jobs", "show", job_id)
    assert "Before and after" in shown
    assert "load_compressed" in shown
    assert "mixed.tar" in printed("jobs", "download", job_id, "--output", str(tmp_path / "out"))
    assert (tmp_path / "out" / "mixed.tar").read_bytes() == CONTENT
    (file,) = json.loads(printed("jobs", "download", job_id, "--all", "--output", str(tmp_path / "all"), "--json"))
    assert file["bytes"] == len(CONTENT)
    absent = qpruner("jobs", "download", job_id, "none.gguf")
    assert "Its files are mixed.tar" in absent.stderr


def test_servers_have_names_and_one_is_the_default(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QPRUNER_SERVER")
    monkeypatch.setattr(Retries, "delay", lambda *given: 0.01)  # one of the servers is away
    away = f"http://127.0.0.1:{free_port()}"
    assert qpruner("servers", "add", "lab", service.url).exit_code == 0
    assert qpruner("servers", "add", "away", away, "--key", input="qp_secret\n").exit_code == 0
    assert profiles.path().stat().st_mode & 0o777 == 0o600
    listed = json.loads(printed("servers", "list", "--json"))
    assert [(one["name"], one["key"], one["default"]) for one in listed] == [
        ("away", True, False),
        ("lab", False, True),
    ]
    assert "qp_secret" not in str(listed)
    assert profiles.load().find("away").api_key == "qp_secret"
    printed("jobs", "list")
    assert qpruner("jobs", "list", "--server", "away").exit_code == 3
    printed("servers", "use", "away")
    assert qpruner("jobs", "list").exit_code == 3
    printed("jobs", "list", "--server", service.url)
    printed("servers", "remove", "away")
    unknown = qpruner("jobs", "list", "--server", "away")
    assert (unknown.exit_code, "Known names in" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    "text", ["default = 3", "[servers.a]\nurl = 3", "[servers]\na = 1", "not toml", 'default = "x"']
)
def test_a_file_of_servers_that_is_broken_is_named(text: str) -> None:
    profiles.path().parent.mkdir()
    profiles.path().write_text(text)
    answer = qpruner("servers", "list")
    assert (answer.exit_code, "servers.toml" in answer.stderr) == (2, True), answer.output


@pytest.mark.parametrize("arguments", [["servers", "add", "a b", "http://h"], ["servers", "add", "a", "h:80"]])
def test_a_name_or_address_that_is_none_is_refused(arguments: list[str]) -> None:
    assert qpruner(*arguments).exit_code == 2


def test_errors_are_one_document_with_json(service: Service) -> None:
    answer = qpruner("jobs", "show", "job_none", "--json")
    assert (answer.exit_code, json.loads(answer.stdout)["error"]["code"]) == (2, "job_not_found")
    bad = qpruner("jobs", "list", "--label", "nonsense")
    assert (bad.exit_code, "--label" in bad.stderr) == (2, True)
