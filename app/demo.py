"""``make demo``: the whole service on SmolLM2-135M-Instruct, used like a client.

Starts ``qpruner serve`` on its embedded parts, uploads prose, submits a job for the target ``gguf``, which suits a CPU,
follows it, downloads the file through its signed URL and generates with it: in llama.cpp if it is installed, and with
our reader in a separate process. Leaves nothing running, unless started with ``--keep``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pydoc_data.topics import topics
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from app.demo_engine import PROMPT, DemoError, say_in_llama_cpp
from qpruner_client import Client, ClientError, Job, JobEvent, Retries
from qpruner_client.models import (
    AttemptLostEvent,
    StageFinishedEvent,
    StageProgressEvent,
    StageStartedEvent,
    WarningEvent,
)
from qpruner_core.die_with_parent import dying_with_parent
from qpruner_core.events import EVENT_ADAPTER
from qpruner_core.formats.declarations import declared
from qpruner_core.measure.llama_cpp_programs import DIRECTORY as LLAMA_CPP
from qpruner_core.program import settle_program
from qpruner_core.report import CompressionReport
from qpruner_core.sizes import format_bytes
from qpruner_core.tables import compute_line, how_to_run, measurement_table
from qpruner_core.terminal import Progress as StageProgress

JOB: dict[str, Any] = {
    "model": "demo:smollm2-135m-instruct",
    "target": "gguf",
    "sequence_length": 128,
    "prune": {"ratio": 0.2, "calibration_sequences": 16},
    "score": {"calibration_sequences": 2},
    "finetune": {"steps": 12, "batch_size": 4, "loss": "cross_entropy", "validation_sequences": 8},
    "evaluate": {"max_tokens": 2048, "generated_tokens": 24},
    "labels": {"made-by": "demo"},
}
BUDGET = "60MB"
FILE = declared("gguf").artifact
SOURCE_NOTE = (
    "SmolLM2-135M comes as a file of 98 MB in 4-bit blocks (Q4_1), and is 269 MB in 16 bits. To fit fewer "
    "bytes than the file, it is pruned as well."
)
RETRIES = Retries(patience=20.0)
START_SECONDS = 60.0
STOP_SECONDS = 40.0

console = Console(highlight=False)


def main(
    budget: Annotated[str, typer.Option(help="Bytes of the loaded model.")] = BUDGET,
    data_dir: Annotated[Path, typer.Option(help=("Folder of the service's data and of the downloads."))] = Path(
        ".qpruner/demo"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 chooses a free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running at the end.")] = False,
) -> None:
    """Compress SmolLM2-135M-Instruct through the service, and show the result."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    begun = time.monotonic()
    data_dir = data_dir.resolve()
    try:
        with _running_service(data_dir, port, keep) as (url, alive), Client(url, retries=RETRIES) as client:
            try:
                job_id, files = _compress(client, data_dir, budget, url)
            except ClientError as error:
                raise error if alive() else DemoError("The service has stopped.") from error
        _say_where(url, job_id, files, data_dir, keep)
        console.print(f"Done in {time.monotonic() - begun:.0f} s.")
    except (DemoError, ClientError) as error:
        console.print("[red]The demo failed.[/red]", end=" ")
        console.print(str(error), markup=False, soft_wrap=True)
        console.print(f"Log of the service: {data_dir / 'serve.log'}.", soft_wrap=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        raise typer.Exit(130) from None


def _compress(client: Client, data_dir: Path, budget: str, url: str) -> tuple[str, Path]:
    """Submit, follow, download and load; returns the job's id and the folder of its files."""
    _cancel_unfinished(client)
    dataset = client.datasets.upload(_write_prose(data_dir / "prose.txt"))
    console.print(SOURCE_NOTE, soft_wrap=True)
    console.print(f"Uploaded {dataset.records} passages of prose as {dataset.id}.")
    job = client.jobs.create(**{**JOB, "dataset": dataset.id, "memory_budget": budget})
    console.print(f"Submitted {job.id}; the page shows it at {url}/#/jobs/{job.id}", soft_wrap=True)
    try:
        with StageProgress(console) as show:
            job.wait(progress=lambda event: _show_event(event, show))
    except BaseException:
        with suppress(ClientError):  # the service is gone or stopping: the next demo cancels unfinished jobs
            _cancel_unfinished(client)
        raise
    files = data_dir / "files" / job.id
    loaded = _download_and_load(job, files)
    _show(CompressionReport.model_validate(job.view.model_dump()["result"]), loaded)
    return job.id, files


def _cancel_unfinished(client: Client) -> None:
    """Cancel unfinished jobs of an interrupted demo: this one would wait behind them."""
    for job in list(client.jobs.list(status=["queued", "running"])):
        client.jobs.get(job.id).cancel()


def _show_event(event: JobEvent, show: StageProgress) -> None:
    match event:
        case StageStartedEvent() | StageProgressEvent():
            told = event.data.model_dump(exclude={"attempt"}, exclude_unset=True)
            show(EVENT_ADAPTER.validate_python({"type": event.type, **told}))
        case StageFinishedEvent(data=data):
            unseen = {"key": "", "directory": "", "files": [], "summary": {}}
            told = {"stage": data.stage, "seconds": data.seconds, "resumed": data.resumed}
            show(EVENT_ADAPTER.validate_python({"type": event.type, **unseen, **told}))
        case WarningEvent(data=data):
            console.print(f"warning: {data.message}", markup=False)
        case AttemptLostEvent(data=data):
            console.print(f"attempt_lost: {data.reason}", markup=False)


def _download_and_load(job: Job, files: Path) -> dict[str, Any]:
    shutil.rmtree(files, ignore_errors=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(" download", total=None)
        path = job.artifacts.download(
            FILE, f"{files}/", on_bytes=lambda done, total: bars.update(task, completed=done, total=total)
        )
    console.print(f"SHA-256 {job.artifacts.find(FILE).sha256} matches the manifest.", soft_wrap=True)
    command = [sys.executable, "-m", "app.cli", "generate", str(path), "--prompt", PROMPT, "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)  # noqa: S603 - our own command
    if answer.returncode:
        raise DemoError(f"The downloaded model does not load: {answer.stderr.strip() or answer.stdout.strip()}")
    return dict(json.loads(answer.stdout)) | {"engine": say_in_llama_cpp(path)}


def _show(report: CompressionReport, loaded: dict[str, Any]) -> None:
    console.print(measurement_table(report.measurements))
    console.print(compute_line(report), soft_wrap=True)
    fits = loaded["bytes"] <= report.memory_budget
    console.print(
        f"The weights in the downloaded file are {loaded['bytes']:,} bytes, budget {report.memory_budget:,}, "
        f"predicted {report.predicted_bytes:,}.", soft_wrap=True,
    )  # fmt: skip
    for reader, text in (("our reader", loaded["text"]), ("llama.cpp", loaded["engine"])):
        if text is None:
            console.print(f"llama.cpp is neither on PATH nor named by {LLAMA_CPP}: it was not tried.", soft_wrap=True)
            continue
        console.print(f"Generated in {reader}: ", end="")
        console.print(" ".join(f"{loaded['prompt']}{text}".split()), style="italic", markup=False)
    console.print(how_to_run(report.exported[0]), markup=False, soft_wrap=True)
    if not fits:
        raise DemoError(f"The weights take {format_bytes(loaded['bytes'])}, more than the budget.")


def _say_where(url: str, job_id: str, files: Path, data_dir: Path, keep: bool) -> None:
    shown = data_dir.relative_to(Path.cwd()) if data_dir.is_relative_to(Path.cwd()) else data_dir
    console.print(f"Files:  {files}", soft_wrap=True)
    if keep:
        pid = (data_dir / "serve.pid").read_text()
        console.print(f"Page:   {url}/#/jobs/{job_id} until you stop it with: kill {pid}", soft_wrap=True)
    else:
        console.print(f'Page:   make serve ARGS="--data-dir {shown}" shows the job again', soft_wrap=True)


def _write_prose(path: Path) -> Path:
    """The prose of Python's own reference, which every installation contains, one passage per paragraph."""
    passages = []
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            text = " ".join(block.split())
            if len(text) >= 80 and sum(one.isalpha() or one == " " for one in text) > 0.85 * len(text):
                passages.append(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(dict.fromkeys(passages)) + "\n", encoding="utf-8")
    return path


@contextmanager
def _running_service(data_dir: Path, port: int, keep: bool) -> Iterator[tuple[str, Callable[[], bool]]]:
    """``qpruner serve`` on embedded parts: its address and liveness. Stopped at the end, unless kept."""
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "app.cli", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    if not keep:  # in any case, it ends
        command = dying_with_parent(command, signal.SIGTERM)
    environment = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    console.print("Starting the service on embedded parts.")
    log = data_dir / "serve.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=data_dir, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
    (data_dir / "serve.pid").write_text(str(process.pid))
    done = False
    try:
        url = _wait_for_url(process, log)
        console.print(f"The service is up at {url}.")
        yield url, lambda: process.poll() is None
        done = True
    finally:
        if not (keep and done):
            _stop(process)


def _is_setting(name: str) -> bool:
    # Embedded defaults: neither the environment nor a .env (we start in data_dir) points the demo at other parts.
    return name.startswith("QPRUNER_") and name not in ("QPRUNER_CACHE_DIR", LLAMA_CPP)


def _wait_for_url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text(errors="replace")
        if found := re.search(r"^page\s+(http://\S+)", text, flags=re.MULTILINE):
            return found[1]
        if process.poll() is not None:
            raise DemoError(f"The service did not start: {' '.join(text.split()[-60:])}")
        time.sleep(0.1)
    raise DemoError(f"The service was not ready within {START_SECONDS:.0f} s.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    settle_program()
    typer.run(main)
