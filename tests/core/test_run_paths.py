"""Where a run may write: found out before anything is read, and never over what QPruner did not write."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qpruner_core import CompressionConfig, compress, parse_config
from qpruner_core.errors import OutputInvalidError
from qpruner_core.events import STAGES
from qpruner_core.output_directory import REPORT, OutputDirectory
from qpruner_core.report import CompressionReport
from qpruner_core.run_paths import check_run_paths
from qpruner_core.source_policy import SourcePolicy
from qpruner_core.stage_store import STAGE_FILE, StageStore, list_files


class KilledError(Exception):
    """What stands for a kill."""


def config_of(root: Path) -> CompressionConfig:
    """A run of ``root/model``, which would be refused as soon as it is looked at: it has no weights."""
    (root / "model").mkdir(exist_ok=True)
    (root / "model" / "README.md").write_text("The user's own words.\n")
    (root / "text.txt").write_text("Some text.\n")
    return parse_config(
        {
            "model": str(root / "model"),
            "dataset": str(root / "text.txt"),
            "target": "bitsandbytes",
            "memory_budget": "1MB",
        }
    )


def contents(root: Path) -> dict[str, bytes | None]:
    """Every path below ``root``, with what a file holds."""
    paths = [path for path in root.rglob("*") if not path.is_fifo()]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


def refusal(root: Path, output: Path, work_dir: Path | None = None) -> OutputInvalidError:
    """Why a run is refused, which comes before the model is looked at; nothing on the disk may change by it."""
    config, before = config_of(root), contents(root)
    with pytest.raises(OutputInvalidError) as caught:
        compress(config, output, work_dir=work_dir)
    assert contents(root) == before
    assert caught.value.remedy
    return caught.value


def write_report(directory: Path) -> None:
    """The report of a run that wrote all files of ``directory``."""
    report = CompressionReport(
        model="m", revision=None, dataset="d", memory_budget=1, seed=0, prune_ratio=0, groups=[], precisions=[],
        widths=[], predicted_bytes=1, measurements=[], stage_seconds={}, warnings=[], files=list_files(directory),
    )  # fmt: skip
    (directory / REPORT).write_text(report.model_dump_json(indent=2) + "\n")


def write_result(directory: Path, words: str, formats: tuple[str, ...] = ("mixed", "merged")) -> None:
    """What a run puts together for its user."""
    for name in formats:
        (directory / name / "adapter").mkdir(parents=True)
        (directory / name / "adapter" / "config.json").write_text(words)
        (directory / name / "README.md").write_text(words)
    (directory / "README.md").write_text(words)
    (directory / "recipe.json").write_text(words)
    write_report(directory)


def replace_with(root: Path, write: Callable[[Path], None]) -> None:
    with OutputDirectory(root).replacing() as partial:
        write(partial)


def finished_output(root: Path, words: str = "first") -> Path:
    replace_with(root, lambda partial: write_result(partial, words))
    return root


def test_the_models_own_directory_is_refused_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "model")
    for output in (tmp_path / "model", tmp_path / "link", tmp_path / "x" / ".." / "model"):
        error = refusal(tmp_path, output)
        assert (error.field, "model's own directory" in error.message) == ("output", True)


def test_the_models_own_directory_mounted_elsewhere_is_refused(tmp_path: Path) -> None:
    config_of(tmp_path)
    with bind_mount(tmp_path / "model", tmp_path / "elsewhere"):
        assert "model's own directory" in refusal(tmp_path, tmp_path / "elsewhere").message


@pytest.mark.parametrize(
    "path",
    ["README.md", "recipe.json", "report.json", "mixed/notes.txt", "merged/model.safetensors", "merged_quantized/a/b",
     "mixed", "README.md/inside", ".qpruner.partial"],
)  # fmt: skip
def test_what_no_run_wrote_is_refused_by_name_and_stays(path: str, tmp_path: Path) -> None:
    file = tmp_path / "out" / path
    file.parent.mkdir(parents=True)
    file.write_text('{"model": "mine"}')
    error = refusal(tmp_path, tmp_path / "out")
    assert error.field == "output"
    assert str(tmp_path / "out" / path.split("/inside")[0]) in error.message


def test_files_beside_the_result_are_nobodys_business(tmp_path: Path) -> None:
    for name in ("notes.txt", "export/prune.txt", "stage.json"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    check_run_paths(tmp_path / "out", None, config_of(tmp_path), SourcePolicy())
    finished_output(tmp_path / "out")
    finished_output(tmp_path / "out", "second")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "export" / "prune.txt").read_text() == "mine"


def link_to_elsewhere(path: Path) -> None:
    elsewhere = path.parents[1] / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    path.symlink_to(elsewhere, target_is_directory=True)


def replace_by_link(path: Path) -> None:
    path.rename(path.parent / "moved")
    path.symlink_to("moved")


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited card": lambda out: (out / "README.md").write_text("first, and words of mine"),
    "edited config": lambda out: (out / "mixed" / "adapter" / "config.json").write_text("mine"),
    "added file": lambda out: (out / "merged" / "model.gguf").write_text("mine"),
    "linked folder": lambda out: link_to_elsewhere(out / "merged_quantized"),
    "moved and linked": lambda out: replace_by_link(out / "mixed"),
    "linked inside": lambda out: link_to_elsewhere(out / "mixed" / "more"),
    "linked report": lambda out: replace_by_link(out / "report.json"),
    "deleted report": lambda out: (out / "report.json").unlink(),
    "edited report": lambda out: (out / "report.json").write_text("{}"),
    "a pipe": lambda out: os.mkfifo(out / "mixed" / "pipe"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_result_that_its_user_has_changed_since_is_refused(change: str, tmp_path: Path) -> None:
    output = finished_output(tmp_path / "out")
    CHANGES[change](output)
    assert refusal(tmp_path, output).field == "output"


def test_what_an_earlier_run_wrote_is_replaced_and_what_it_no_longer_writes_goes(tmp_path: Path) -> None:
    output = finished_output(tmp_path / "out")
    (output / "mixed" / "README.md").unlink()  # which its user may do
    check_run_paths(output, None, config_of(tmp_path), SourcePolicy())
    with OutputDirectory(output).replacing() as partial:
        write_result(partial, "second", formats=("mixed",))
    assert {path.name for path in output.iterdir()} == {"mixed", "README.md", "recipe.json", "report.json"}
    assert (output / "README.md").read_text() == (output / "mixed" / "README.md").read_text() == "second"


def test_a_result_that_cannot_be_finished_leaves_the_earlier_one(tmp_path: Path) -> None:
    output = finished_output(tmp_path / "out")
    before = contents(output)

    def fail(partial: Path) -> None:
        write_result(partial, "second")
        raise KilledError

    with pytest.raises(KilledError):
        replace_with(output, fail)
    assert contents(output) == before


def test_what_is_put_there_while_the_run_works_stays_too(tmp_path: Path) -> None:
    output = finished_output(tmp_path / "out")

    def dawdle(partial: Path) -> None:
        write_result(partial, "second")
        (output / "merged" / "mine.txt").write_text("mine")

    with pytest.raises(OutputInvalidError):
        replace_with(output, dawdle)
    assert (output / "merged" / "mine.txt").read_text() == "mine"
    assert (output / "README.md").read_text() == "first"


@pytest.mark.parametrize("renames", range(6))
def test_a_run_that_is_killed_while_it_replaces_does_not_lock_its_user_out(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, left = finished_output(tmp_path / "out"), [renames]
    replace = Path.replace

    def replace_or_die(self: Path, target: Path) -> Path:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_or_die)
        try:
            with OutputDirectory(output).replacing() as partial:
                write_result(partial, "second")
        except KilledError:
            assert renames < 5
    check_run_paths(output, None, config_of(tmp_path), SourcePolicy())
    finished_output(output, "third")
    assert (output / "merged" / "README.md").read_text() == "third"
    assert not list(output.glob(".qpruner*"))


@pytest.mark.parametrize("stage", ["prune", "export"])
@pytest.mark.parametrize("ending", ["", ".partial", ".progress"])
def test_stage_directories_that_no_run_wrote_are_refused_and_stay(stage: str, ending: str, tmp_path: Path) -> None:
    mine = tmp_path / "out.work" / f"{stage}{ending}"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("mine")
    error = refusal(tmp_path, tmp_path / "out")
    assert error.field == "output"
    assert str(mine) in error.message
    assert refusal(tmp_path, tmp_path / "other", tmp_path / "out.work").field == "work_dir"


@pytest.mark.parametrize("words", ["", "[]", "{}", '{"stage": "score"}', "[" * 5000])
def test_a_stage_directory_is_a_runs_only_if_it_says_so(words: str, tmp_path: Path) -> None:
    (tmp_path / "out.work" / "prune").mkdir(parents=True)
    (tmp_path / "out.work" / "prune" / STAGE_FILE).write_text(words)
    assert "prune" in refusal(tmp_path, tmp_path / "out").message


def test_a_stage_that_is_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "elsewhere")
    with store.begin("prune") as partial:
        store.commit("prune", "key", partial, {}, 0.0)
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "prune").symlink_to(store.directory("prune"))
    assert refusal(tmp_path, tmp_path / "out").field == "output"
    (tmp_path / "out.work" / "prune").unlink()
    (tmp_path / "out.work" / "known_trials.jsonl").write_text("mine")
    assert "known_trials" in refusal(tmp_path, tmp_path / "out").message


def test_what_a_killed_run_left_of_its_stages_is_its_own(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "out.work")
    store.root.mkdir()
    (store.root / "score.partial").mkdir()  # killed before a word was written
    with store.begin("prune") as partial:
        (partial / "half").write_text("half")
        check_run_paths(tmp_path / "out", None, config_of(tmp_path), SourcePolicy())
        store.commit("prune", "key", partial, {}, 0.0)
    store.progress_directory("finetune").mkdir()
    (store.progress_directory("finetune") / "state.json").write_text("{}")
    check_run_paths(tmp_path / "out", None, config_of(tmp_path), SourcePolicy())
    with store.begin("prune") as partial:
        assert [path.name for path in partial.iterdir()] == [STAGE_FILE]


def test_a_store_itself_deletes_no_stage_that_no_run_wrote(tmp_path: Path) -> None:
    mine = tmp_path / "prune.partial" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(OutputInvalidError), StageStore(tmp_path).begin("prune"):
        pass
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("output", "work"),
    [("out", "out"), ("work/prune", "work"), ("work/score.partial/x", "work"), ("out", "out/mixed"),
     ("out", "out/merged/work"), ("out", "out/.qpruner.partial"), ("out", "model"), ("cache/hub/out", "work"),
     ("out", "cache/converted/x")],
)  # fmt: skip
def test_directories_that_a_run_would_destroy_itself_with_are_refused(output: str, work: str, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    policy = SourcePolicy(cache_dir=tmp_path / "cache")
    with pytest.raises(OutputInvalidError) as caught:
        check_run_paths(tmp_path / output, tmp_path / work, config, policy)
    assert caught.value.field in ("output", "work_dir")


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize("place", ["out/mixed/deep", "out/.qpruner.partial", "out.work/prune/model", "out.work/export"])
def test_what_the_run_reads_is_not_where_it_writes(kind: str, place: str, tmp_path: Path) -> None:
    config = config_of(tmp_path).model_copy(update={kind: str(tmp_path / place)})
    (tmp_path / place).mkdir(parents=True)
    with pytest.raises(OutputInvalidError) as caught:
        check_run_paths(tmp_path / "out", None, config, SourcePolicy())
    assert kind in caught.value.message


def test_a_result_inside_the_models_directory_is_no_danger_to_it(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    paths = check_run_paths(tmp_path / "model" / "small", None, config, SourcePolicy())
    assert paths.work == tmp_path / "model" / "small.work"
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["README.md"]


def long_name(root: Path) -> Path:
    return root / ("x" * 300)


def long_only_with_its_ending(root: Path) -> Path:
    return root / ("x" * 252)


def long_path(root: Path) -> Path:
    return root.joinpath(*["x" * 200] * 25)


def loop(root: Path) -> Path:
    (root / "loop").symlink_to(root / "loop")
    return root / "loop" / "out"


BAD_PLACES: dict[str, Callable[[Path], Path]] = {
    "a file": lambda root: root / "text.txt",
    "below a file": lambda root: root / "text.txt" / "a" / "out",
    "a device": lambda root: Path("/dev/null"),
    "below a device": lambda root: Path("/dev/null/out"),
    "no file system for it": lambda root: Path("/proc/nothing/out"),
    "the root": lambda root: Path("/"),
    "a long name": long_name,
    "a long path": long_path,
    "a loop": loop,
    "a zero byte": lambda root: root / "a\0b",
    "half a character": lambda root: root / "a\ud800b",
}


@pytest.mark.parametrize("place", BAD_PLACES)
def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_looked_at(place: str, tmp_path: Path) -> None:
    output = BAD_PLACES[place](tmp_path)
    error = refusal(tmp_path, output)
    assert error.field == "output"
    assert len(str(error)) < 1000
    if place != "the root":
        assert refusal(tmp_path, tmp_path / "out", output).field == "work_dir"


def test_a_name_that_is_too_long_for_the_stages_beside_it_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, long_only_with_its_ending(tmp_path))
    assert error.field == "output"
    check_run_paths(long_only_with_its_ending(tmp_path), tmp_path / "work", config_of(tmp_path), SourcePolicy())


@contextmanager
def bind_mount(source: Path, target: Path, *, read_only: bool = False) -> Iterator[None]:
    """``source`` at ``target`` too; skips where mounting is not permitted."""
    target.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "--bind", str(source), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting needs root: {done.stderr.strip()}")
    try:
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(target)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)


def test_a_read_only_file_system_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with bind_mount(tmp_path / "disk", tmp_path / "mounted", read_only=True):
        for output in (tmp_path / "mounted", tmp_path / "mounted" / "new" / "out"):
            assert "read-only" in refusal(tmp_path, output).message
            assert refusal(tmp_path, tmp_path / "out", output).field == "work_dir"


def test_an_earlier_result_that_may_not_be_deleted_is_told_at_once(tmp_path: Path) -> None:
    output = finished_output(tmp_path / "out")
    with bind_mount(output / "merged", output / "merged", read_only=True):
        assert "merged" in refusal(tmp_path, output).message


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_without_permission_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "permission denied" in refusal(tmp_path, tmp_path / "closed" / "out").message


def test_missing_parents_are_made_and_a_refused_run_leaves_none(tmp_path: Path) -> None:
    before = contents(tmp_path)
    config = config_of(tmp_path)
    paths = check_run_paths(tmp_path / "a" / "b" / "out", tmp_path / "c" / "work", config, SourcePolicy())
    assert contents(tmp_path).keys() - before.keys() == {
        str(tmp_path / name) for name in ("model", "model/README.md", "text.txt")
    }
    finished_output(paths.output.root)
    assert (tmp_path / "a" / "b" / "out" / REPORT).is_file()


def test_every_stage_is_guarded(tmp_path: Path) -> None:
    assert len(StageStore(tmp_path).replaced()) == 3 * len(STAGES)
