"""What a job leaves is packed the same way every time."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

import worker.artifacts
from qpruner_core.formats.declarations import FORMATS, FormatDeclaration
from qpruner_core.stage_store import file_sha256
from worker.artifacts import pack_artifacts, pack_directory


def write_checkpoint(directory: Path, names: list[str]) -> Path:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


def test_the_same_files_give_the_same_tar_whenever_and_by_whom_they_were_written(tmp_path: Path) -> None:
    names = ["config.json", "adapter/b.bin", "adapter/a.bin"]
    first = write_checkpoint(tmp_path / "one" / "mixed", names)
    second = write_checkpoint(tmp_path / "two" / "mixed", names[::-1])
    os.utime(second / "config.json", (1, 1))
    (second / "config.json").chmod(0o600)
    pack_directory(first, tmp_path / "first.tar")
    pack_directory(second, tmp_path / "second.tar")
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_a_tar_unpacks_to_what_was_packed(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "mixed", ["config.json", "adapter/a.bin"])
    pack_directory(directory, tmp_path / "mixed.tar")
    with tarfile.open(tmp_path / "mixed.tar") as tar:
        assert tar.getnames() == ["mixed", "mixed/adapter", "mixed/adapter/a.bin", "mixed/config.json"]
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert (tmp_path / "unpacked" / "mixed" / "adapter" / "a.bin").read_text() == "adapter/a.bin"


def test_packing_ends_between_two_files_when_it_is_to_end_and_leaves_no_tar(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, ["mixed/a.bin", "mixed/b.bin", "report.json"])
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(pack_artifacts(tmp_path, check))
    assert not (tmp_path / "mixed.tar").exists()


def test_only_what_a_run_wrote_is_packed_and_no_tar_is_left(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, ["merged/config.json", "report.json", "README.md", "scratch.txt"])
    assert [file.name for file in pack_artifacts(tmp_path)] == ["merged.tar", "report.json", "README.md"]
    assert not (tmp_path / "merged.tar").exists()


def test_whatever_format_is_declared_is_handed_out_in_the_order_of_their_declarations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FormatDeclaration("whole", "one file", "final", "final", path="model.gguf", suffix=".gguf")
    directories = tuple(one for one in FORMATS if one.is_directory)
    monkeypatch.setattr(worker.artifacts, "FORMATS", (whole, *directories))
    write_checkpoint(tmp_path, [*(f"{one.place}/config.json" for one in directories), "model.gguf", "README.md"])
    packed = [(file.name, file.format) for file in pack_artifacts(tmp_path)]
    tars = [(one.artifact, "tar") for one in directories]
    assert packed == [("model.gguf", "gguf"), *tars, ("README.md", "markdown")]
    first = next(iter(pack_artifacts(tmp_path)))
    assert first.sha256 == file_sha256(tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").is_file()
