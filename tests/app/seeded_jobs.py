"""Jobs as workers leave them in the database, for the page to show."""

from __future__ import annotations

import math
from datetime import timedelta

from sqlalchemy.orm import Session

from app.database import utc_now
from app.ids import new_id
from app.jobs.history import append_event
from app.jobs.models import Artifact, Job, JobMetric, JobTrial, StageResult
from app.keys.service import DEFAULT_TENANT
from app.store.base import ArtifactStore
from qpruner_core.config import CompressionConfig
from qpruner_core.events import STAGES
from qpruner_core.report import CompressionReport, ExportedFormat, Measurement, Pruning, Snippet

LAYERS = 30
BUDGET = 130_000_000
PARTS = {
    "layer": [""],
    "block": [".attention", ".mlp"],
    "module": [f".self_attn.{one}_proj" for one in "qkvo"] + [f".mlp.{one}_proj" for one in ("gate", "up", "down")],
}  # fmt: skip
"""Units with a precision of their own in a layer, by granularity."""


def group_names(granularity: str = "layer", *, head: bool = False) -> list[str]:
    """Every part of every layer, the embeddings, and a head of its own if there is one."""
    inside = [f"layers.{layer}{part}" for layer in range(LAYERS) for part in PARTS[granularity]]
    return [*inside, "embeddings", *(["head"] if head else [])]


def precisions_of(groups: list[str]) -> list[str]:
    """An allocation with all precisions in it, the first and last layer in 16 bits, and INT8 outside the layers."""
    ends = "layers.0", f"layers.{LAYERS - 1}"
    return [
        ("bf16" if f"{name}.".startswith(tuple(f"{end}." for end in ends)) else "int8" if index % 4 == 0 else "nf4")
        if name.startswith("layers.")
        else "int8"
        for index, name in enumerate(groups)
    ]


GROUPS = group_names()


def add_job(
    session: Session, status: str, *, stage: str | None = None, model: str = "demo:smollm2-135m-instruct"
) -> Job:
    """A job without history."""
    config = CompressionConfig(model=model, dataset="ds_prose", memory_budget=BUDGET)
    now = utc_now()
    job = Job(
        id=new_id("job"), tenant=DEFAULT_TENANT, status=status, stage=stage, progress=0.0, model=model,
        dataset="ds_prose", memory_budget=BUDGET, labels={}, config=config.model_dump(mode="json"),
        request_sha256="0" * 64, attempt=0 if status == "queued" else 1, max_attempts=3, created_at=now,
        started_at=None if status == "queued" else now - timedelta(seconds=200),
        finished_at=now if status in ("succeeded", "failed", "cancelled") else None,
    )  # fmt: skip
    session.add(job)
    session.flush()
    append_event(session, job.id, "queued")
    return job


def finish_stages(session: Session, job: Job, stages: tuple[str, ...], groups: list[str] = GROUPS) -> None:
    """Give ``job`` the rows of finished ``stages``, of which the score stage names ``groups``."""
    for number, stage in enumerate(stages):
        seconds = 4.2 + 13 * number
        session.add(
            StageResult(
                job_id=job.id, stage=stage, attempt=1, seconds=seconds, store_prefix=f"jobs/{job.id}/stages/{stage}",
                files=[], summary={"groups": groups} if stage == "score" else {}, finished_at=utc_now(),
            )
        )  # fmt: skip
        append_event(session, job.id, "stage_started", {"stage": stage})
        append_event(session, job.id, "stage_finished", {"stage": stage, "seconds": seconds, "resumed": False})


def add_trials(session: Session, job: Job, number: int, groups: list[str] = GROUPS) -> None:
    """Give ``job`` as many trials, the last of them with ``precisions_of(groups)``."""
    for index in range(number):
        spread = math.sin(index * 2.4) * 0.5 + 0.5
        precisions = precisions_of(groups)
        if index < number - 1:
            wide = [(group * 7 + index) % 11 == 0 for group in range(len(groups))]
            precisions = [
                "bf16" if more else "nf4" if name.startswith("layers.") else "int8"
                for name, more in zip(groups, wide, strict=True)
            ]
        size = int(96e6 + 33e6 * spread)
        loss = 3.9 - 0.6 * spread + 0.12 * abs(math.cos(index * 5.1))
        origin = "score" if index == 0 else "random" if index < 6 else "acquisition"
        session.add(JobTrial(job_id=job.id, index=index, origin=origin, precisions=precisions, bytes=size, loss=loss))


def add_running_job(session: Session, groups: list[str] = GROUPS) -> Job:
    """A job in the middle of its search."""
    job = add_job(session, "running", stage="allocate")
    job.progress = 2.4 / 7
    finish_stages(session, job, STAGES[:2], groups)
    append_event(session, job.id, "stage_started", {"stage": "allocate"})
    append_event(session, job.id, "stage_progress", {"stage": "allocate", "fraction": 0.4, "message": "trial 16 of 40"})
    add_trials(session, job, 16, groups)
    return job


def add_failed_job(session: Session) -> Job:
    """A job whose training diverged."""
    job = add_job(session, "failed", stage="finetune", model="org/broken-model@main")
    job.progress = 4.3 / 7
    finish_stages(session, job, STAGES[:4])
    job.error = {
        "code": "training_diverged", "message": "The loss became NaN at step 31.", "field": "finetune.learning_rate",
        "remedy": "Lower finetune.learning_rate and retry: finished stages are kept.",
        "user": False,
    }  # fmt: skip
    append_event(session, job.id, "failed", job.error)
    return job


PRUNING = Pruning(
    ratio=0.2, removed_fraction=0.198, criterion="taylor_first", layout="global", compensation="refit",
    removed_layers=[11, 17], parameters_before=134_515_008, parameters_after=117_000_000,
    block_parameters_before=106_203_456, block_parameters_after=85_175_000, bytes_before=269_030_144,
    bytes_after=234_000_000, widths=[], ratio_reason="The ratio was given.",
)  # fmt: skip


def add_finished_job(
    session: Session, store: ArtifactStore, artifact: bytes, sha256: str, groups: list[str] = GROUPS
) -> Job:
    """A job with its report, its curves and one file, which holds ``artifact``."""
    job = add_job(session, "succeeded")
    job.progress = 1.0
    finish_stages(session, job, STAGES, groups)
    add_trials(session, job, 40, groups)
    for step in range(0, 200, 4):
        value = 3.1 + 1.1 * math.exp(-step / 40) + 0.12 * math.sin(step * 1.7)
        session.add(JobMetric(job_id=job.id, name="finetune.loss", step=step, value=value))
    for step in range(0, 201, 50):
        value = 3.15 + 1.05 * math.exp(-step / 45)
        session.add(JobMetric(job_id=job.id, name="finetune.validation_loss", step=step, value=value))
    rows = (
        ("dense", 134_515_008, 269_030_144, 20.5, 31.0),
        ("pruned", 117_000_000, 234_000_000, 44.1, 34.2),
        ("pruned_nf4", 117_000_000, 104_000_000, 52.8, 18.4),
        ("mixed", 119_000_000, 128_400_000, 47.3, 20.2),
        ("final", 119_000_000, 128_400_000, 29.7, 20.1),
    )
    job.result = CompressionReport(
        model=job.model, revision=None, dataset=job.dataset, memory_budget=BUDGET, seed=0, prune_ratio=0.13,
        groups=groups, precisions=precisions_of(groups),
        widths=[{"mlp": 1536 - 32 * (layer % 5), "kv_groups": 3} for layer in range(LAYERS)],
        predicted_bytes=128_400_000, pruning=PRUNING,
        exported=[
            ExportedFormat(
                name="mixed", title="every part at its precision, with adapters", path="mixed", artifact="mixed.tar",
                bytes=129_000_000,
                snippets=(Snippet(tool="qpruner", language="python", text='model = load_compressed("mixed")'),),
            )
        ],
        measurements=[
            Measurement.model_validate(
                dict(zip(("variant", "parameters", "bytes", "perplexity", "tokens_per_second"), row, strict=True))
                | ({} if row[0] == "dense" else {"divergence": 0.37, "top1_agreement": 0.81, "compared_tokens": 3072})
            )
            for row in rows
        ],
        stage_seconds=dict.fromkeys(STAGES, 10.0), warnings=[], files=[],
    ).model_dump(mode="json")  # fmt: skip
    job.dense_bytes, job.final_bytes = rows[0][2], rows[-1][2]
    key = f"jobs/{job.id}/artifacts/mixed.tar"
    session.add(
        Artifact(
            job_id=job.id,
            name="mixed.tar",
            key=key,
            bytes=len(artifact),
            sha256=sha256,
            format="tar",
            created_at=utc_now(),
        )
    )
    append_event(session, job.id, "succeeded")
    return job
