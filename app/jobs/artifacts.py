"""What is said of a job's files: which one to take, and the lines that run it."""

from __future__ import annotations

from collections.abc import Sequence

from app.jobs.models import Artifact, Job
from app.jobs.schemas import ArtifactView, StoredArtifact
from qpruner_core.export.config import CARD, RECIPE
from qpruner_core.formats.declarations import FORMATS, of_artifact
from qpruner_core.report import CompressionReport, ExportedFormat

_DOCUMENTS = {
    "report.json": "what was measured",
    RECIPE: "all settings, seeds and hashes to make it again",
    CARD: "the model card",
}
_ORDER = [*(one.artifact for one in FORMATS), *_DOCUMENTS]


def in_order(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """The checkpoints first, the one to take at their head, then the documents."""
    return sorted(artifacts, key=lambda one: (_ORDER.index(one.name) if one.name in _ORDER else len(_ORDER), one.name))


def described(job: Job, artifact: Artifact, stored: StoredArtifact) -> ArtifactView:
    """The view of ``artifact``. How a checkpoint is run is in the report of its job; older ones do not say."""
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
