"""``qpruner jobs``: compress models on a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import typer

from app.commands.job_tables import show_job, show_jobs, show_result
from app.commands.models import upload_with_progress
from app.commands.session import AsJson, Server, connected, errors, out, print_json
from qpruner_client import ApiError, Client, Job, ProgressBar
from qpruner_client.jobs import Status
from qpruner_core.budget_options import Budget, CacheTypes, Context, Device, FitMemory, Sequences, budget_settings
from qpruner_core.errors import InvalidConfigError
from qpruner_core.model_options import RunsOnOption, Target
from qpruner_core.run_settings import (
    ConfigFile,
    FinetuneSteps,
    OtherSettings,
    Preset,
    PruneRatio,
    Seed,
    Trials,
    run_settings,
)

app = typer.Typer(no_args_is_help=True, help="Submit and follow jobs of a service, and download their files.")
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.")]
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="As for `compress`; a folder or GGUF file that the service cannot read is uploaded; or the id of an "
        "upload (md_…). --config may name it, too.",
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        help=("A local file, which is uploaded; the id of an upload (ds_…); or a reference that the service can read.")
    ),
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="name=value, for finding the job; repeatable.")]
Key = Annotated[str | None, typer.Option(help="Your own name for the job: submitting it again returns the same job.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")]
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


@app.command()
def submit(
    model: Model = None,
    dataset: Dataset = None,
    config: ConfigFile = None,
    memory_budget: Budget = None,
    fit_memory: FitMemory = None,
    context: Context = None,
    sequences: Sequences = None,
    cache_type: CacheTypes = None,
    fit_device: Device = None,
    target: Target = None,
    runs_on: RunsOnOption = None,
    prune_ratio: PruneRatio = None,
    trials: Trials = None,
    finetune_steps: FinetuneSteps = None,
    seed: Seed = None,
    preset: Preset = None,
    settings: OtherSettings = None,
    label: Labels = None,
    idempotency_key: Key = None,
    watch_it: Watch = False,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Submit a run with the options of `compress`, and print its id."""
    with connected(server, as_json) as client:
        given = {
            **budget_settings(memory_budget, fit_memory, context, sequences, cache_type, fit_device),
            "model": model, "dataset": dataset, "seed": seed, "target": target, "runs_on": runs_on,
            "preset": preset,
            "prune.ratio": prune_ratio, "allocate.trials": trials, "finetune.steps": finetune_steps,
        }  # fmt: skip
        body = run_settings(config, given, settings)
        if label:
            body["labels"] = {**body.get("labels", {}), **_labels(label)}
        _upload_what_lies_here(client, body)
        job = _create(client, body, idempotency_key)
        if watch_it:
            errors.print(f"Submitted {job.id}.")
            _follow(job, as_json)
        elif as_json:
            print_json(job.view.model_dump(mode="json"))
        else:
            typer.echo(job.id)


@app.command("list")
def list_jobs(
    status: Annotated[list[str] | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    search: Annotated[str | None, typer.Option(help="Only with these words in id, model, dataset or labels.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number, newest first.")] = 20,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    with connected(server, as_json) as client:
        wanted = cast("list[Status] | None", status)
        labels = _labels(label or []) or None
        found = list(client.jobs.list(q=search, status=wanted, model=model, label=labels, limit=limit))
        if as_json:
            print_json([job.model_dump(mode="json") for job in found])
        else:
            show_jobs(found)


@app.command()
def show(job_id: JobId, server: Server = None, as_json: AsJson = False) -> None:
    """Show a job: state, stages, settings, and the result or the error."""
    with connected(server, as_json) as client:
        job = client.jobs.get(job_id)
        if as_json:
            print_json(job.view.model_dump(mode="json"))
        else:
            show_job(job)


@app.command()
def watch(job_id: JobId, server: Server = None, as_json: AsJson = False) -> None:
    """Follow a job until it ends; the exit code reports the outcome. Ctrl-C leaves it running."""
    with connected(server, as_json) as client:
        _follow(client.jobs.get(job_id), as_json)


@app.command()
def logs(
    job_id: JobId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Number of the attempt; default: the last one.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print further output until the job ends.")] = False,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Print the output of a job's process: warnings of libraries, the traceback of a failure."""
    with connected(server, as_json) as client:
        if follow:
            if attempt or as_json:
                raise InvalidConfigError(
                    "Following prints text, starting with the last attempt.",
                    field="--follow", remedy="Leave out --attempt and --json.",
                )  # fmt: skip
            for text in client.jobs.get(job_id).follow_logs():
                typer.echo(text, nl=False)
            return
        found = client.jobs.get(job_id).logs()
        if as_json:
            print_json([one.model_dump(mode="json") for one in found])
            return
        chosen = [one for one in found if one.attempt == attempt] if attempt else found[-1:]
        for one in chosen:
            if one.omitted_bytes:
                errors.print(f"{one.omitted_bytes:,} earlier bytes were not kept.")
            typer.echo(one.text, nl=not one.text.endswith("\n"))
        if not chosen:
            known = ", ".join(str(one.attempt) for one in found) or "none"
            errors.print(f"No output{(f' of attempt {attempt}' if attempt else '')}; attempts with output: {known}.")


@app.command()
def cancel(job_ids: JobIds, server: Server = None, as_json: AsJson = False) -> None:
    """Stop jobs."""
    _each(job_ids, server, as_json, lambda job: job.cancel())


@app.command()
def retry(job_ids: JobIds, server: Server = None, as_json: AsJson = False) -> None:
    """Queue failed or cancelled jobs again; they resume after their last finished stage."""
    _each(job_ids, server, as_json, lambda job: job.retry())


@app.command()
def delete(job_ids: JobIds, server: Server = None, as_json: AsJson = False) -> None:
    """Delete ended jobs and their files."""
    with connected(server, as_json) as client:
        for job_id in job_ids:
            client.jobs.get(job_id).delete()
            if not as_json:
                out.print(f"{job_id} is deleted.")
        if as_json:
            print_json({"deleted": job_ids})


def _each(job_ids: list[str], server: str | None, as_json: bool, action: Any) -> None:
    with connected(server, as_json) as client:
        done = [action(client.jobs.get(job_id)) for job_id in job_ids]
        if as_json:
            print_json([job.view.model_dump(mode="json") for job in done])
            return
        for job in done:
            asked = " (its worker was requested to stop)" if job.view.cancel_requested and not job.ended else ""
            out.print(f"{job.id} is {job.status}{asked}.")


def _follow(job: Job, as_json: bool) -> None:
    bar = ProgressBar()
    try:
        job.wait(progress=bar)
    finally:
        bar.close()
    if as_json:
        print_json(job.view.model_dump(mode="json"))
    else:
        show_result(job)


def _upload_what_lies_here(client: Client, body: dict[str, Any]) -> None:
    dataset = body.get("dataset")
    if isinstance(dataset, str) and not dataset.startswith("ds_") and Path(dataset).expanduser().is_file():
        uploaded = client.datasets.upload(Path(dataset).expanduser())
        errors.print(f"Uploaded {dataset} as {uploaded.id}.", markup=False, soft_wrap=True)
        body["dataset"] = uploaded.id


def _create(client: Client, body: dict[str, Any], key: str | None) -> Job:
    """Submit the run; a model that lies here and that the service cannot read is uploaded before."""
    model = body.get("model")
    here = Path(model).expanduser() if isinstance(model, str) else None
    if here is None or not here.exists():
        return client.jobs.create(idempotency_key=key, **cast(Any, body))
    if urlsplit(client.server).hostname in _THIS_MACHINE:
        try:
            return client.jobs.create(idempotency_key=key, **cast(Any, body | {"model": str(here.resolve())}))
        except ApiError as error:
            if error.code != "path_not_allowed" or error.field != "model":
                raise
    sent = upload_with_progress(client, here)
    errors.print(f"Uploaded {model} as {sent.id}.", markup=False, soft_wrap=True)
    return client.jobs.create(idempotency_key=key, **cast(Any, body | {"model": sent.id}))


def _labels(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    bad = next((text for text, pair in zip(texts, pairs, strict=True) if not pair[1] or not pair[0]), None)
    if bad is not None:
        raise InvalidConfigError(f"{bad!r} is not name=value.", field="--label", remedy="Write --label team=search.")
    return {name: value for name, _, value in pairs}
