"""Names of uploads, made safe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.datasets.upload import safe_filename
from app.store.keys import check_key


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("text.jsonl", "text.jsonl"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("/etc/cron.d/x.txt", "x.txt"),
        ("C:\\Users\\me\\my data.jsonl", "my_data.jsonl"),
        ("..", "dataset"),
        ("a" * 300 + ".jsonl.gz", "a" * 183 + ".jsonl.gz"),
        ("data.CSV.zst", "data.CSV.zst"),
        ("", "dataset"),
        (".hidden.txt", "hidden.txt"),
        ("a\0b\n.txt", "a_b_.txt"),
        ("语料 (1).txt", "语料_(1).txt"),
        ('"; rm -rf ~;.txt', "_rm_-rf_.txt"),
    ],
)
def test_a_name_loses_its_folders_and_what_could_be_misread(sent: str, kept: str) -> None:
    assert safe_filename(sent) == kept


@given(st.text())
def test_any_name_becomes_one_that_a_store_and_a_folder_take(sent: str) -> None:
    name = safe_filename(sent)
    assert check_key(f"datasets/ds_1/{name}")
    assert "/" not in name
    assert len(name.encode()) <= 220
    assert not name.startswith(".")
