"""``qpruner jobs download``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from app.commands.jobs import JobId
from app.commands.session import AsJson, Server, connected, errors, out, print_json
from qpruner_client import Job
from qpruner_client.models import ArtifactView

_TO_TAKE: tuple[str | None] = (None,)


def download(
    job_id: JobId,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="FILE…", help=("Names of files; default: the recommended one."))
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path(),
    every: Annotated[bool, typer.Option("--all", help="Every file of the job.")] = False,
    connections: Annotated[int, typer.Option(min=1, max=64, help="Number of ranges downloaded in parallel.")] = 4,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Download files of a job and verify them. Run it again to resume."""
    with connected(server, as_json) as client:
        job = client.jobs.get(job_id)
        entries = job.artifacts.list() if every else [job.artifacts.find(name) for name in names or _TO_TAKE]
        paths = [_download(job, entry, output, connections) for entry in entries]
        if as_json:
            print_json([
                {"name": entry.name, "path": str(path), "bytes": entry.bytes, "sha256": entry.sha256}
                for entry, path in zip(entries, paths, strict=True)
            ])  # fmt: skip
            return
        for entry, path in zip(entries, paths, strict=True):
            out.print(f"{path}  {entry.bytes:,} bytes, SHA-256 {entry.sha256}", markup=False, soft_wrap=True)
            for line in [entry.unpack, *(snippet.text for snippet in entry.snippets[:1])]:
                if line:
                    out.print(line, markup=False, soft_wrap=True, style="dim")


def _download(job: Job, entry: ArtifactView, output: Path, connections: int) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        task = bars.add_task(entry.name, total=entry.bytes)
        return job.artifacts.download(
            entry.name, f"{output}/", connections=connections,
            on_bytes=lambda done, total: bars.update(task, completed=done, total=total),
        )  # fmt: skip
