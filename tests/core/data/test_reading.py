"""Reading datasets: every accepted form, and every refusal with its line and remedy."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from qpruner_core.data import DatasetDescription, inspect_dataset, read_dataset
from qpruner_core.data.records import (
    ChoicesRecord,
    InstructionRecord,
    Message,
    MessagesRecord,
    TextRecord,
    running_text,
)
from qpruner_core.errors import (
    DatasetInvalidError,
    DatasetNotFoundError,
    DatasetTooLargeError,
    HubUnavailableError,
    PathNotAllowedError,
    UserError,
)
from qpruner_core.source_policy import SourcePolicy
from tests.hub_server import HubServer

TEXT = {"text": "Some words."}
INSTRUCTION = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
CHOICES = {"context": "The sky is", "choices": ["blue", "a fish"], "label": 0}


def write_jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "kind", "record"),
    [
        (TEXT, "text", TextRecord("Some words.")),
        (INSTRUCTION, "instruction", InstructionRecord("Add.", "1 and 2", "3")),
        ({"instruction": "Sing.", "output": "La"}, "instruction", InstructionRecord("Sing.", "", "La")),
        ({"instruction": "Sing.", "input": None, "output": "La"}, "instruction", InstructionRecord("Sing.", "", "La")),
        (MESSAGES, "messages", MessagesRecord((Message("user", "Hi"), Message("assistant", "Hello")))),
        (CHOICES, "choices", ChoicesRecord("The sky is", ("blue", "a fish"), 0)),
    ],
)
def test_each_kind_of_jsonl_is_read(tmp_path: Path, row: dict[str, Any], kind: str, record: object) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", row, row | {"source": "an extra column is no harm"})
    dataset = read_dataset(str(path), SourcePolicy())
    assert dataset.kind == kind
    assert dataset.records == (record, record)
    content = path.read_bytes()
    unused = ("These columns of the dataset are not used: 'source'.",)
    described = DatasetDescription(kind, 2, len(content), hashlib.sha256(content).hexdigest(), len(content), unused)  # type: ignore[arg-type]
    assert inspect_dataset(str(path), SourcePolicy()) == described
    assert (dataset.bytes, dataset.sha256, dataset.warnings) == (described.bytes, described.sha256, unused)


def test_a_text_file_is_read_by_paragraphs(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffOne line,\nand another.\n\n \nSecond: größer.\r\n\r\nThird".encode())
    dataset = read_dataset(str(path), SourcePolicy())
    assert [record.text for record in dataset.records] == ["One line,\nand another.", "Second: größer.", "Third"]  # type: ignore[union-attr]
    assert dataset.is_prose


def test_a_text_without_paragraphs_is_cut_into_pieces_without_loss(tmp_path: Path) -> None:
    words = " ".join(f"word{index}" for index in range(3000))
    (tmp_path / "long.txt").write_text(words)
    records = read_dataset(str(tmp_path / "long.txt"), SourcePolicy()).records
    texts = [record.text for record in records if isinstance(record, TextRecord)]
    assert len(texts) > 3
    assert max(map(len, texts)) <= 4096
    assert running_text(records).removesuffix("\n\n") == words


def test_empty_lines_and_empty_records_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('\n{"text": "a"}\n   \n{"text": "  "}\n{"text": "b"}')
    assert inspect_dataset(str(path), SourcePolicy()).records == 2


def test_conversations_and_answers_without_words_are_counted(tmp_path: Path) -> None:
    message = {"role": "user", "content": "q"}
    silent = [{"messages": []}, {"messages": [message, {"role": "assistant", "content": " "}]}]
    path = write_jsonl(tmp_path / "data.jsonl", MESSAGES, *silent, MESSAGES)
    described = inspect_dataset(str(path), SourcePolicy())
    assert described.records == 2
    assert any(warning.startswith("2 records are not used") for warning in described.warnings)


def test_an_upload_is_read_by_its_id_without_any_allowed_root(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "upload.jsonl", TEXT)
    policy = SourcePolicy(allowed_roots=(), uploads={"ds_abc": path})
    assert inspect_dataset("ds_abc", policy).records == 1
    assert "Upload" in _refused("ds_other", policy, DatasetNotFoundError).remedy


def test_parquet_is_read_as_jsonl_is(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([MESSAGES, MESSAGES]), tmp_path / "data.parquet")
    path = write_jsonl(tmp_path / "data.jsonl", MESSAGES, MESSAGES)
    read = read_dataset(str(tmp_path / "data.parquet"), SourcePolicy())
    assert read.records == read_dataset(str(path), SourcePolicy()).records

    (tmp_path / "broken.parquet").write_bytes((tmp_path / "data.parquet").read_bytes()[:-9])
    assert "Parquet" in _refused(str(tmp_path / "broken.parquet"), SourcePolicy(), DatasetInvalidError).message


@pytest.mark.parametrize(
    "row",
    [
        {"text": "x" * 2**20},
        {"messages": [{"role": role, "content": "x" * 2**20} for role in ("user", "assistant")]},
        {"context": "x", "choices": ["x" * 2**20] * 2, "label": 0},
    ],
)
def test_parquet_that_repeats_one_string_is_refused_before_it_fills_the_memory(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([row] * 300), path, dictionary_pagesize_limit=2**30)
    assert path.stat().st_size < 2**20
    usual, measured = pyarrow.default_memory_pool(), pyarrow.proxy_memory_pool(pyarrow.default_memory_pool())
    pyarrow.set_memory_pool(measured)
    try:
        assert inspect_dataset(str(path), SourcePolicy()).records == 300
        error = _refused(str(path), SourcePolicy(max_dataset_bytes=2**22), DatasetInvalidError)
    finally:
        pyarrow.set_memory_pool(usual)
    assert "decoded" in error.message
    assert measured.max_memory() < 32 * 2**20  # written out, it would be more than 300


def test_a_parquet_row_longer_than_a_record_may_be_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    rows = [MESSAGES, {"messages": [{"role": "assistant", "content": "x" * 2**20}] * 9}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert "rows" in _refused(str(path), SourcePolicy(), DatasetInvalidError).message


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary", "binary", "fixed"])
def test_parquet_strings_of_every_type_are_read_and_other_types_are_refused(tmp_path: Path, kind: str) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    types = {
        "string": pyarrow.string(), "large_string": pyarrow.large_string(), "string_view": pyarrow.string_view(),
        "dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), "binary": pyarrow.binary(),
        "fixed": pyarrow.binary(5),
    }  # fmt: skip
    column = pyarrow.array(["prose", None if kind == "fixed" else "words"] * 2000).cast(types[kind])
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table({"text": column, "other": column}), path, row_group_size=1500)
    if kind in ("binary", "fixed"):
        assert "text" in _refused(str(path), SourcePolicy(), DatasetInvalidError).message
    else:
        assert [record.text for record in read_dataset(str(path), SourcePolicy()).records] == ["prose", "words"] * 2000  # type: ignore[union-attr]


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.Table.from_arrays([["a"], ["b"]], names=["text", "text"]), path)
    assert "the name 'text'" in _refused(str(path), SourcePolicy(), DatasetInvalidError).message


def test_a_line_longer_than_a_record_may_be_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a"}\n{"text": [' + "[]," * (3 * 2**20) + "[]]}\n")
    error = _refused(str(path), SourcePolicy(), DatasetInvalidError)
    assert "line 2 is longer than" in error.message
    assert "Split" in error.remedy


def test_a_text_of_one_huge_line_is_read_and_its_letters_are_never_split(tmp_path: Path) -> None:
    words = "größer " * (3 * 2**20)
    path = tmp_path / "one-line.txt"
    path.write_text(words, encoding="utf-8")
    dataset = read_dataset(str(path), SourcePolicy())
    letters = "".join(record.text for record in dataset.records).replace(" ", "")  # type: ignore[union-attr]
    assert letters == words.replace(" ", "")
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(words.encode()[:-2] + b"\xc3")
    assert "line 1 is not UTF-8" in _refused(str(path), SourcePolicy(), DatasetInvalidError).message


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"txt": "a"}, "'txt'"),
        ({"k" * 1000: "a"}, f"but '{'k' * 40}'"),
        ({}, "none"),
        ({"instruction": "a", "responses": "b"}, "'responses'"),
        ({"text": 7}, "not a string"),
        ({"text": None}, "not a string"),
        ({"text": "half a pair: \ud83d"}, "not valid Unicode"),
        ({"instruction": "a", "output": {}}, "not a string"),
        ({"instruction": "a", "output": ["b"]}, "not an object"),
        ({"messages": "hello"}, "not a list"),
        ({"messages": ["hello"]}, "not an object"),
        ({"messages": [{"role": "user"}]}, '"content"'),
        ({"messages": [{"content": "x"}]}, '"role"'),
        ({"messages": [{"role": "user", "content": "x"}]}, "assistant"),
        (CHOICES | {"label": 2}, "is 2"),
        (CHOICES | {"label": -1}, "is -1"),
        (CHOICES | {"label": "0"}, "whole number"),
        (CHOICES | {"label": 0.5}, "whole number"),
        (CHOICES | {"label": True}, "whole number"),
        (CHOICES | {"choices": ["only"]}, "1 choices"),
        (CHOICES | {"choices": []}, "0 choices"),
        (CHOICES | {"choices": "ab"}, "list of strings"),
        (CHOICES | {"choices": ["a", 2]}, "list of strings"),
        ("a string", "not a JSON object"),
        ([1], "not a JSON object"),
    ],
)
def test_a_bad_row_is_left_out_with_its_line_and_refused_if_it_is_all(tmp_path: Path, row: Any, said: str) -> None:
    good = TEXT
    if isinstance(row, dict):
        good = next((kind for kind in (INSTRUCTION, MESSAGES, CHOICES) if set(kind) & set(row)), TEXT)
    path = write_jsonl(tmp_path / "data.jsonl", good, row, good)
    dataset = read_dataset(str(path), SourcePolicy())
    assert len(dataset.records) == 2
    assert dataset.warnings[0].startswith("1 record was left out (line 2): ")
    assert said in dataset.warnings[0]
    error = _refused(str(write_jsonl(path, row)), SourcePolicy(), DatasetInvalidError)
    assert "line 1" in error.message
    assert said in error.message


def test_a_line_that_is_no_json_is_left_out_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": "b"\n')
    assert "(line 3): it is not JSON" in read_dataset(str(path), SourcePolicy()).warnings[0]


@pytest.mark.parametrize(("bad", "of", "refused"), [(3, 7, False), (4, 39, True), (4, 40, False), (5, 49, True)])
def test_more_than_a_few_bad_rows_and_a_tenth_are_refused(tmp_path: Path, bad: int, of: int, refused: bool) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", *[{"text": None}] * bad, *[TEXT] * (of - bad))
    if refused:
        error = _refused(str(path), SourcePolicy(), DatasetInvalidError)
        assert f"{bad} of {of} records" in error.message
        assert "line 1" in error.message
    else:
        assert (
            f"{bad} records were left out (line 1, line 2, line 3"
            in inspect_dataset(str(path), SourcePolicy()).warnings[0]
        )


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text("[" * 200_000)
    assert "line 1" in _refused(str(tmp_path / "data.jsonl"), SourcePolicy(), DatasetInvalidError).message


def test_mixed_kinds_are_refused_with_the_line_where_they_begin(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "data.jsonl", TEXT, TEXT, *[CHOICES] * 4)
    error = _refused(str(path), SourcePolicy(), DatasetInvalidError)
    assert "line 3" in error.message
    assert "one kind" in error.remedy


@pytest.mark.parametrize("name", ["empty.txt", "empty.jsonl"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "empty" in _refused(str(tmp_path / name), SourcePolicy(), DatasetInvalidError).message


@pytest.mark.parametrize(("name", "content"), [("a.txt", " \n\n\t\n"), ("a.jsonl", '{"text": ""}\n{"text": " "}\n')])
def test_a_file_of_empty_strings_is_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert "empty strings" in _refused(str(tmp_path / name), SourcePolicy(), DatasetInvalidError).message


@pytest.mark.parametrize("name", ["binary.txt", "binary.jsonl"])
@pytest.mark.parametrize(
    ("content", "said"),
    [(b"more\0text\n", "binary"), (b"\x89PNG\r\n\x1a\n\xff\xfe", "UTF-8"), (b"caf\xe9", "UTF-8")],
)
def test_a_binary_file_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    if name.endswith("jsonl"):
        content = b'{"text": "a"}\n' + content
    (tmp_path / name).write_bytes(content)
    error = _refused(str(tmp_path / name), SourcePolicy(), DatasetInvalidError)
    assert said in error.message
    assert "line" in error.message


def test_utf16_is_named(tmp_path: Path) -> None:
    for name, encoding in (("a.txt", "utf-16-le"), ("a.csv", "utf-16-be")):
        (tmp_path / name).write_bytes("\ufefftext\nHello there\n".encode(encoding))
        error = _refused(str(tmp_path / name), SourcePolicy(), DatasetInvalidError)
        assert "UTF-16" in error.message
        assert "UTF-8" in error.remedy


def test_a_file_larger_than_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as stream:
        stream.truncate(10**12)  # a terabyte of nothing, which takes no room and could never be read
    error = _refused(str(path), SourcePolicy(), DatasetTooLargeError)
    assert "1.00 TB" in error.message
    assert "268.4 MB" in error.message


@pytest.mark.parametrize("name", ["missing.txt", "nowhere/data.jsonl"])
def test_a_missing_file_is_not_found(tmp_path: Path, name: str) -> None:
    _refused(str(tmp_path / name), SourcePolicy(), DatasetNotFoundError)


def test_a_directory_is_no_dataset(tmp_path: Path) -> None:
    assert "directory" in _refused(str(tmp_path), SourcePolicy(), DatasetNotFoundError).message


def test_an_unknown_type_of_file_is_refused(tmp_path: Path) -> None:
    for name in ("data.xlsx", "data.gz", "data.parquet.gz", "data"):
        (tmp_path / name).write_text("a,b\n1,2\n")
        error = _refused(str(tmp_path / name), SourcePolicy(), DatasetInvalidError)
        assert repr(Path(name).suffix) in error.message
        assert ".jsonl" in error.remedy


def test_a_file_outside_the_allowed_roots_is_refused_also_through_a_link(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data.jsonl", TEXT)
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link.jsonl").symlink_to(tmp_path / "data.jsonl")
    policy = SourcePolicy(allowed_roots=(allowed,))
    for reference in (str(tmp_path / "data.jsonl"), str(allowed / "link.jsonl"), f"{allowed}/../data.jsonl"):
        _refused(reference, policy, PathNotAllowedError)


def test_a_link_may_say_the_format_that_its_target_does_not(tmp_path: Path) -> None:
    """As the caches of hubs hold files: ``snapshots/COMMIT/data.jsonl`` links to ``blobs/DIGEST``."""
    write_jsonl(tmp_path / "data.jsonl", TEXT)
    (tmp_path / "blob").hardlink_to(tmp_path / "data.jsonl")
    (tmp_path / "link.jsonl").symlink_to("blob")
    (tmp_path / "other name").symlink_to("data.jsonl")
    expected = read_dataset(str(tmp_path / "data.jsonl"), SourcePolicy()).records
    for name in ("link.jsonl", "other name"):
        assert read_dataset(str(tmp_path / name), SourcePolicy()).records == expected


def test_a_path_that_the_system_refuses_is_refused() -> None:
    assert "too long" in _refused(f"/{'a' * 300}.jsonl", SourcePolicy(), PathNotAllowedError).message


def test_a_reference_that_is_nothing_is_not_found() -> None:
    assert "ds_" in _refused("no such thing", SourcePolicy(), DatasetNotFoundError).remedy


@pytest.fixture
def hub_policy(hub_server: HubServer, tmp_path: Path) -> SourcePolicy:
    return SourcePolicy(
        hub_endpoint=hub_server.url, allowed_roots=(), cache_dir=tmp_path / "cache", max_dataset_bytes=100_000
    )


def test_a_hub_dataset_is_its_training_files(hub_server: HubServer, hub_policy: SourcePolicy, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "data").mkdir(parents=True)
    write_jsonl(repository / "data" / "train-0.jsonl", TEXT)
    write_jsonl(repository / "data" / "train-1.jsonl", TEXT, TEXT)
    write_jsonl(repository / "data" / "test-0.jsonl", TEXT)
    (repository / "acme.py").write_text("raise SystemExit")
    commit = hub_server.add_dataset("acme/words", repository)

    assert inspect_dataset(f"acme/words@{commit}", hub_policy).records == 3
    assert inspect_dataset("acme/words:data/test-0.jsonl", hub_policy).records == 1
    assert not any("acme.py" in request for request in hub_server.requests)
    _refused("acme/words:data/none.jsonl", hub_policy, DatasetNotFoundError)


def test_hub_datasets_are_refused_for_what_is_wrong_with_them(
    hub_server: HubServer, hub_policy: SourcePolicy, tmp_path: Path
) -> None:
    for name in ("gated", "script", "large", "parts/en", "parts/de"):
        (tmp_path / name).mkdir(parents=True)
    write_jsonl(tmp_path / "gated" / "train.jsonl", TEXT)
    (tmp_path / "script" / "load.py").write_text("raise SystemExit")
    (tmp_path / "large" / "train.txt").write_text("word " * 30_000)
    for language in ("en", "de"):
        write_jsonl(tmp_path / "parts" / language / "train.jsonl", TEXT)
    hub_server.add_dataset("acme/gated", tmp_path / "gated", gated=True)
    for name in ("script", "large", "parts"):
        hub_server.add_dataset(f"acme/{name}", tmp_path / name)

    assert "gated" in _refused("acme/gated", hub_policy, DatasetNotFoundError).message
    assert "scripts are never run" in _refused("acme/script", hub_policy, DatasetInvalidError).message
    assert "acme/parts:de/train.jsonl" in _refused("acme/parts", hub_policy, DatasetInvalidError).remedy
    _refused("acme/large", hub_policy, DatasetTooLargeError)
    _refused("acme/none", hub_policy, DatasetNotFoundError)
    assert hub_server.sent == {}
    hub_server.failing = True
    with pytest.raises(HubUnavailableError) as caught:
        inspect_dataset("acme/parts", hub_policy)
    assert caught.value.field == "dataset"


def _refused(reference: str, policy: SourcePolicy, kind: type[UserError]) -> UserError:
    """The error that both reading and describing give, which names field and remedy."""
    errors = []
    for use in (inspect_dataset, read_dataset):
        with pytest.raises(kind) as caught:
            use(reference, policy)
        assert type(caught.value) is kind
        errors.append(caught.value)
    assert errors[0].to_dict() == errors[1].to_dict()
    assert errors[0].field == "dataset"
    assert errors[0].remedy
    return errors[0]
