"""``qpruner jobs``: compress models on a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from app.commands.job_tables import show_job, show_jobs, show_result
from app.commands.session import AsJson, Server, connected, errors, out, print_json
from qpruner_client import Client, Job, ProgressBar
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

app = typer.Typer(no_args_is_help=True, help="Submit, follow and fetch the jobs of a service.")
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.")]
Model = Annotated[
    str | None, typer.Argument(metavar="MODEL", help="As for `compress`, on the service; --config may name it, too.")
]
Dataset = Annotated[
    str | None,
    typer.Option(help="A file here, which is uploaded; the id of an upload (ds_…); or what the service can read."),
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="name=value, to find the job by; repeatable.")]
Key = Annotated[str | None, typer.Option(help="A name of yours for the job: submitting it again makes no second one.")]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it until it has ended.")]


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
        job = client.jobs.create(idempotency_key=idempotency_key, **cast(Any, body))
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
    model: Annotated[str | None, typer.Option(help="Only of this model.")] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    with connected(server, as_json) as client:
        wanted = cast("list[Status] | None", status)
        found = list(client.jobs.list(status=wanted, model=model, label=_labels(label or []) or None, limit=limit))
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
    """Follow a job until it has ended; the exit code says how. Ctrl-C leaves it running."""
    with connected(server, as_json) as client:
        _follow(client.jobs.get(job_id), as_json)


@app.command()
def logs(
    job_id: JobId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Of this attempt; by default the last one.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print what comes until the job has ended.")] = False,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Print what a job's process printed: warnings of libraries, the traceback of a failure."""
    with connected(server, as_json) as client:
        if follow:
            if attempt or as_json:
                raise InvalidConfigError(
                    "A job is followed as text and from its last attempt on.",
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
                errors.print(f"{one.omitted_bytes:,} bytes before this are not kept.")
            typer.echo(one.text, nl=not one.text.endswith("\n"))
        if not chosen:
            known = ", ".join(str(one.attempt) for one in found) or "none"
            errors.print(
                f"Nothing is kept{f' of attempt {attempt}' if attempt else ''}; attempts with output: {known}."
            )


@app.command()
def cancel(job_ids: JobIds, server: Server = None, as_json: AsJson = False) -> None:
    """Stop jobs."""
    _each(job_ids, server, as_json, lambda job: job.cancel())


@app.command()
def retry(job_ids: JobIds, server: Server = None, as_json: AsJson = False) -> None:
    """Queue failed or cancelled jobs again; they go on from their last finished stages."""
    _each(job_ids, server, as_json, lambda job: job.retry())


@app.command()
def delete(job_ids: JobIds, server: Server = None, as_json: AsJson = False) -> None:
    """Delete jobs that have ended, with their files."""
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
            asked = " (its worker was asked to stop)" if job.view.cancel_requested and not job.ended else ""
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


def _labels(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    bad = next((text for text, pair in zip(texts, pairs, strict=True) if not pair[1] or not pair[0]), None)
    if bad is not None:
        raise InvalidConfigError(f"{bad!r} is not name=value.", field="--label", remedy="Write --label team=search.")
    return {name: value for name, _, value in pairs}
