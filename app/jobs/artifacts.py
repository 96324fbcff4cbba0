"""Descriptions of a job's files: the recommended one first, and the commands that run it."""

from __future__ import annotations

from collections.abc import Sequence

from app.jobs.models import Artifact, Job
from app.jobs.schemas import ArtifactView, StoredArtifact
from qpruner_core.export.config import CARD, RECIPE
from qpruner_core.formats.declarations import FORMATS, of_artifact
from qpruner_core.report import CompressionReport, ExportedFormat

_DOCUMENTS = {
    "report.json": "measurements and times",
    RECIPE: "all settings, seeds and hashes to reproduce it",
    CARD: "the model card",
}
_ORDER = [*(one.artifact for one in FORMATS), *_DOCUMENTS]


def in_order(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """The checkpoints first, with the recommended one at their head, then the documents."""
    return sorted(artifacts, key=lambda one: (_ORDER.index(one.name) if one.name in _ORDER else len(_ORDER), one.name))


def described(job: Job, artifact: Artifact, stored: StoredArtifact) -> ArtifactView:
    """The view of ``artifact``. The report of its job has the commands that run a checkpoint; older ones do not."""
    report = CompressionReport.model_validate(job.result) if job.result else None
    exported: ExportedFormat | None = None
    if report is not None:
        exported = next((one for one in report.exported if one.artifact == artifact.name), None)
    declared = of_artifact(artifact.name)
    title = exported.title if exported else declared.title if declared else _DOCUMENTS.get(artifact.name, "")
    return ArtifactView(
        **stored.model_dump(),
        title=title,
        unpack=f"tar -xf {artifact.name}" if artifact.format == "tar" else None,
        snippets=list(exported.snippets) if exported else [],
    )
