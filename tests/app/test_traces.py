"""Traces of real processes, received by a collector on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.embedded import settings_environment
from app.settings import Settings
from app.traces import ExtraMissingError, Traces, open_traces
from qpruner_core.events import STAGES
from tests.app.span_receiver import ReceivedSpan, SpanReceiver, receiving_spans
from tests.server_processes import free_port, start_server, wait_until
from tests.worker.installation import TINY

MARK = "A sentence of the dataset that no trace may carry."


@pytest.fixture
def receiver() -> Iterator[SpanReceiver]:
    with receiving_spans() as made:
        yield made


@pytest.fixture
def service(tmp_path: Path, sources: Path, receiver: SpanReceiver) -> Iterator[str]:
    """``qpruner serve`` with traces to ``receiver``; its address. Every process has ended when the test goes on."""
    settings = Settings(
        _env_file=None, data_dir=tmp_path / "data", allowed_roots=(sources,), port=free_port(), poll_seconds=0.1,
        worker_threads=1, traces_endpoint=receiver.url, signing_key="a secret for tests, long enough to be one",
    )  # fmt: skip
    url = f"http://127.0.0.1:{settings.port}"
    with ExitStack() as processes:
        command, log = [sys.executable, "-m", "app.cli", "serve"], tmp_path / "serve.log"
        start_server(processes, command, log, environment=settings_environment(settings) | {"OMP_NUM_THREADS": "1"})
        assert wait_until(lambda: _is_ready(url), 90), log.read_text()
        yield url


@pytest.mark.service
@pytest.mark.timeout(600)
def test_one_trace_leads_from_the_request_to_every_stage(service: str, sources: Path, receiver: SpanReceiver) -> None:
    text = (sources / "text.txt").read_text()[:60_000]
    uploaded = httpx.post(f"{service}/datasets", files={"file": ("prose.txt", f"{MARK}\n\n{text}".encode())})
    brief = {"allocate": {"trials": 1}, "finetune": {"steps": 4, "warmup_steps": 1}}
    body = {"model": str(sources / "model"), "dataset": uploaded.json()["id"], **TINY, **brief}
    submitted = httpx.post(f"{service}/jobs", json=body, timeout=60)
    assert submitted.status_code == 202, submitted.text
    job = f"{service}{submitted.headers['Location']}"
    assert wait_until(lambda: httpx.get(job).json()["status"] in ("succeeded", "failed"), 400)
    assert httpx.get(job).json()["status"] == "succeeded", httpx.get(job).text
    (file, *_) = httpx.get(f"{job}/artifacts").json()["artifacts"]
    downloaded = httpx.get(f"{job}/artifacts/{file['name']}", follow_redirects=True)
    assert downloaded.status_code == 200

    assert wait_until(lambda: any(span.name == "run a job" for span in receiver.spans))
    by_id = {span.id: span for span in receiver.spans}
    (run,) = (span for span in receiver.spans if span.name == "run a job")
    names = [span.name for span in _ancestors(run, by_id)]
    assert names == ["wake a worker", "POST /jobs"]
    assert (run.service, by_id[run.parent].service) == ("qpruner-worker", "qpruner-api")
    stages = {span.name: span for span in receiver.spans if span.name.startswith("stage ")}
    assert list(stages) == [f"stage {stage}" for stage in STAGES]
    assert {span.trace for span in stages.values()} == {run.trace} == {_ancestors(run, by_id)[-1].trace}
    for span in stages.values():
        assert span.parent == run.id
        assert span.seconds > 0
        assert span.attributes["qpruner.stage.bytes"] >= 0  # that of evaluate has its table in its summary
        assert span.attributes["qpruner.model"] == str(sources / "model")
        assert span.attributes["qpruner.target"] == "bitsandbytes"
        assert span.attributes["qpruner.job.id"] == submitted.json()["id"]
    assert stages["stage prune"].attributes["qpruner.stage.bytes"] > 10_000
    assert run.attributes["qpruner.outcome"] == "settled"
    assert any(span.attributes.get("db.system.name") == "sqlite" and span.trace == run.trace for span in receiver.spans)

    roots = {span.name for span in receiver.spans if not span.parent}
    assert not any(name.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")) for name in roots), roots
    signature = downloaded.url.params["signature"]
    for secret in (MARK, "a secret for tests", signature):
        assert secret.encode() not in receiver.raw


def test_without_the_setting_nothing_that_makes_or_sends_spans_is_imported(tmp_path: Path) -> None:
    # redis-py imports the metrics of the SDK, where it is installed
    programme = (
        "import sys; from app.main import create_app; from app.settings import Settings; import worker.celery_app;"
        "create_app(Settings(_env_file=None)); names = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', "
        "'opentelemetry.instrumentation', 'app.traces.spans'); print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", programme], capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
    assert type(open_traces(Settings(_env_file=None), "test")) is Traces


def test_without_the_extra_the_setting_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("app.traces.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ExtraMissingError, match=r"Install qpruner\[otel\]"):
        open_traces(Settings(_env_file=None, traces_endpoint="http://127.0.0.1:4318"), "test")


def _is_ready(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/readyz", timeout=10).json()["ready"])
    except httpx.HTTPError:
        return False


def _ancestors(span: ReceivedSpan, by_id: dict[str, Any]) -> list[ReceivedSpan]:
    found = []
    while span.parent:
        span = by_id[span.parent]
        found.append(span)
    return found
