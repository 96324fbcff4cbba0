"""The directories that a run writes to, checked against their content and against the inputs of the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qpruner_core.config import CompressionConfig
from qpruner_core.errors import OutputInvalidError
from qpruner_core.local_paths import is_local_reference
from qpruner_core.models.demo import DEMO_PREFIX
from qpruner_core.output_directory import LONGEST_CHECKPOINT_FILE, OutputDirectory
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage_store import StageStore
from qpruner_core.writable import require_writable

WORK_SUFFIX = ".work"
_LONGEST_STAGE_FILE = f"evaluate.partial/{LONGEST_CHECKPOINT_FILE}"  # longer than any of the export stage's
_CACHED = ("hub", "converted")


@dataclass(frozen=True)
class RunPaths:
    """Output paths of a run: absolute, with symbolic links resolved."""

    output: OutputDirectory
    work: Path


def check_run_paths(output: Path, work_dir: Path | None, config: CompressionConfig, policy: SourcePolicy) -> RunPaths:
    """Output paths of a run of ``config``; ``work_dir`` defaults to ``<output>.work``. Changes nothing on disk.

    Raises:
        OutputInvalidError: a directory cannot be written, is that of the model, holds foreign files, or is placed so
            that writing would replace inputs of the run.
        DiskFullError: no space is left there.
    """
    root = _resolved(output, "output")
    if not root.name:
        raise _invalid(
            "output", f"The output {str(root)!r} is the root of the file system.", "Choose a directory below it."
        )
    field = "output" if work_dir is None else "work_dir"
    work = _resolved(root.with_name(root.name + WORK_SUFFIX) if work_dir is None else work_dir, field)
    directory, store = OutputDirectory(root), StageStore(work)
    _refuse_each_other(directory, store, field)
    for kind, path in _inputs(config, policy):
        _refuse_input(kind, path, directory, store, field)
    for name in _CACHED:
        _refuse_within_cache(policy.cache_dir / name, directory, store, field)
    require_writable(root, "output", longest=directory.longest)
    require_writable(work, field, longest=_LONGEST_STAGE_FILE)
    directory.refuse_foreign()
    store.refuse_foreign(field)
    return RunPaths(directory, work)


def _resolved(path: Path, field: str) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise _invalid(field, f"{str(path)!r} is not a valid path.", "Choose another directory.") from error


def _inputs(config: CompressionConfig, policy: SourcePolicy) -> list[tuple[str, Path]]:
    """The local files and directories that the run reads."""
    named = [("model", config.model), ("dataset", config.dataset)]
    inputs = [(kind, policy.uploads[name]) for kind, name in named if name in policy.uploads]
    for kind, name in named:
        if name not in policy.uploads and not name.startswith(DEMO_PREFIX) and is_local_reference(name, policy):
            inputs.append((kind, Path(name).expanduser()))
    return [(kind, _resolved(path, kind)) for kind, path in inputs]


def _refuse_each_other(output: OutputDirectory, store: StageStore, field: str) -> None:
    if _same(output.root, store.root):
        raise _invalid(
            "work_dir",
            "The output and the directory of finished stages are the same.",
            ("Choose two different directories."),
        )
    if _lies_in(output.root, store.replaced()):
        raise _invalid(
            "output", "The output lies inside the directory of the run's stages.", "Choose a separate directory."
        )
    if _lies_in(store.root, output.replaced()):
        raise _invalid(
            field,
            "The directory of finished stages lies inside the output.",
            "Choose a separate directory.",
        )


def _refuse_input(kind: str, path: Path, output: OutputDirectory, store: StageStore, field: str) -> None:
    if _same(path, output.root) and path.is_dir():
        raise _invalid(
            "output",
            f"The output {str(output.root)!r} is the {kind}'s own directory.",
            "Choose a separate directory for the result.",
        )
    if _lies_in(path, output.replaced()):
        raise _invalid(
            "output", f"The {kind} {str(path)!r} lies inside the output.", "Choose another output directory."
        )
    if _same(path, store.root) or _lies_in(path, store.replaced()):
        raise _invalid(
            field,
            f"The {kind} {str(path)!r} lies inside the directory of the run's stages, {str(store.root)!r}.",
            "Choose another directory.",
        )


def _refuse_within_cache(cached: Path, output: OutputDirectory, store: StageStore, field: str) -> None:
    for path, name in ((output.root, "output"), (store.root, field)):
        if _lies_in(path, [cached]):
            raise _invalid(name, f"{str(path)!r} lies inside the model cache.", "Choose a separate directory.")


def _lies_in(path: Path, folders: list[Path]) -> bool:
    """Whether ``path`` is one of ``folders`` or lies below one."""
    return any(_same(part, folder) for part in (path, *path.parents) for folder in folders)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths refer to the same place, under any mount."""
    try:
        return one == other or one.samefile(other)
    except (OSError, ValueError):
        return False


def _invalid(field: str, message: str, remedy: str) -> OutputInvalidError:
    return OutputInvalidError(message, field=field, remedy=remedy)
