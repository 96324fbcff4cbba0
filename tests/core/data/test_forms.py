"""Datasets as people have them: forms of files, sets of columns, line ends; the same content gives the same records."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpruner_core.data import TextDataset, inspect_dataset, read_dataset
from qpruner_core.data.passages import paragraphs, passages
from qpruner_core.data.records import (
    ChoicesRecord,
    InstructionRecord,
    Message,
    MessagesRecord,
    Record,
    TextRecord,
    running_text,
)
from qpruner_core.data.splits import split_records
from qpruner_core.errors import DatasetInvalidError, DatasetTooLargeError
from qpruner_core.source_policy import SourcePolicy

ROWS = [{"instruction": f'Say, "it" {index}', "input": "", "output": f"né {index}\nand; more"} for index in range(5)]
RECORDS = tuple(InstructionRecord(row["instruction"], "", row["output"]) for row in ROWS)


def read(path: Path, content: bytes | str, **policy: Any) -> TextDataset:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_dataset(str(path), SourcePolicy(**policy))


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(ROWS[0])
    writer.writerows(row.values() for row in ROWS)
    return text.getvalue()


FORMS = {
    "lines.jsonl": lines(*ROWS),
    "lines.ndjson": lines(*ROWS),
    "array.json": json.dumps(ROWS),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "objects.json": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "lines.json": lines(*ROWS),
    "wrapped.json": json.dumps({"version": "1.1", "data": ROWS}),
    "commas.csv": table(","),
    "semicolons.csv": table(";"),
    "tabs.tsv": table("\t"),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_rows_are_the_same_records_in_every_form(tmp_path: Path, name: str) -> None:
    assert read(tmp_path / name, FORMS[name]).records == RECORDS
    zipped = read(tmp_path / f"{name}.gz", gzip.compress(FORMS[name].encode()))
    assert zipped.records == RECORDS
    described = inspect_dataset(str(tmp_path / f"{name}.gz"), SourcePolicy())
    assert described.bytes == (tmp_path / f"{name}.gz").stat().st_size
    assert described.text_bytes == len(FORMS[name].encode())
    assert described.sha256 == zipped.sha256


def test_zstd_is_read_as_it_is_without(tmp_path: Path) -> None:
    zstd = pytest.importorskip("backports.zstd", reason="zstd needs backports.zstd, which is optional")
    content = FORMS["lines.jsonl"].encode()
    assert read(tmp_path / "data.jsonl.zst", zstd.compress(content)).records == RECORDS
    with pytest.raises(DatasetInvalidError, match="decompressed"):
        read(tmp_path / "data.jsonl.zst", zstd.compress(content * 100)[:-9])
    with pytest.raises(DatasetTooLargeError, match="after decompression"):
        read(tmp_path / "data.jsonl.zst", zstd.compress(content * 10_000), max_dataset_bytes=10_000)


def test_a_bomb_is_refused_at_the_limit_and_broken_gzip_is_told(tmp_path: Path) -> None:
    bomb = gzip.compress(b'{"text": "a"}\n' * 2**17)
    with pytest.raises(DatasetTooLargeError, match="after decompression") as caught:
        read(tmp_path / "bomb.jsonl.gz", bomb, max_dataset_bytes=2**18)
    assert caught.value.field == "dataset"
    for broken in (bomb[:-9], bomb[:500] + b"\0" * 100 + bomb[500:]):
        with pytest.raises(DatasetInvalidError, match="decompressed"):
            read(tmp_path / "broken.txt.gz", broken)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("name", ["data.txt", "data.jsonl", "data.json", "data.csv"])
def test_line_ends_do_not_matter(tmp_path: Path, name: str, end: str) -> None:
    content = {
        "data.txt": "One,\ntwo.\n\nThree\u2028still\x85three.\n \nFour" + "\nlong line" * 9000,
        "data.csv": table(",").replace("\r\n", "\n"),
    }.get(name, FORMS.get(name.replace("data", "lines"), ""))
    expected = read(tmp_path / name, content).records
    assert read(tmp_path / name, "\ufeff" + content.replace("\n", end)).records == expected
    assert len(expected) > 2


def test_line_ends_within_json_strings_are_lines_ends_and_other_separators_are_not(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf"
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in ("1\r\n2\r3\n4", odd))
    assert read(tmp_path / "data.jsonl", content).records == (TextRecord("1\n2\n3\n4"), TextRecord(odd))


def chat(*messages: tuple[str, str], system: str = "", tools: str = "") -> MessagesRecord:
    first = [Message("system", system)] if system else []
    return MessagesRecord((*first, *(Message(role, text) for role, text in messages)), tools)


HI = chat(("user", "Hi"), ("assistant", "Hello"))
USER = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello"}
CALL = '{"tool_calls": [{"function": {"arguments": {"a": 1}, "name": "add"}, "type": "function"}]}'
ALIASES: list[tuple[dict[str, Any], Record]] = [
    ({"prompt": "Hi", "completion": "Hello"}, InstructionRecord("Hi", "", "Hello")),
    ({"question": "Hi", "answer": "Hello"}, InstructionRecord("Hi", "", "Hello")),
    ({"query": "Hi", "response": "Hello"}, InstructionRecord("Hi", "", "Hello")),
    (
        {"instruction": "Hi", "context": "there", "response": "Hello", "category": "x"},
        InstructionRecord("Hi", "there", "Hello"),
    ),
    (
        {"instruction": "Hi", "output": "Hello", "system": "Be\r\nkind", "history": [["a", "b"], ["c", "d"]]},
        InstructionRecord("Hi", "", "Hello", "Be\nkind", (("a", "b"), ("c", "d"))),
    ),
    ({"prompt": [USER], "completion": [HELLO]}, HI),
    ({"messages": [{"role": "User", "content": "Hi"}, {"role": "Assistant ", "content": "Hello"}]}, HI),
    ({"prompt": "Hi", "completion": "Hello", "label": True}, InstructionRecord("Hi", "", "Hello")),
    ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, HI),
    (
        {"system": "S", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        chat(("user", "Hi"), ("assistant", "Hello"), system="S"),
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "H"}, "i"]}, HELLO]},
        HI,
    ),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}, HI),
    ({"prompt": "Hi", "chosen": [USER, HELLO], "rejected": [USER]}, HI),
    ({"prompt": [USER], "chosen": [HELLO], "rejected": [HELLO]}, HI),
    ({"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}, HI),
    (
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello"},
            "rejected": {"from": "gpt", "value": "No"},
        },
        HI,
    ),
    (
        {"question": "The sky is", "choices": ["blue", "a fish"], "answer": 0},
        ChoicesRecord("The sky is", ("blue", "a fish"), 0),
    ),
    (
        {"context": "The sky is", "choices": ["a fish", "blue"], "label": 1.0},
        ChoicesRecord("The sky is", ("a fish", "blue"), 1),
    ),
    (
        {
            "tools": '[{"name": "add"}]',
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "Hello"},
            ],
        },
        MessagesRecord(
            (*HI.messages[:1], Message("assistant", "", CALL), Message("tool", "2"), *HI.messages[1:]),
            '[{"type": "function", "function": {"name": "add"}}]',
        ),
    ),
    (
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
                },
            ]
        },
        MessagesRecord((Message("user", "Hi"), Message("assistant", "", CALL))),
    ),
    (
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1}'}},
                HELLO | {"function_call": {"name": None, "arguments": None}},
            ]
        },
        MessagesRecord((Message("user", "Hi"), Message("assistant", "", CALL), Message("assistant", "Hello"))),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("row", "record"), ALIASES)
def test_columns_of_other_tools_are_understood(tmp_path: Path, row: dict[str, Any], record: Record) -> None:
    dataset = read(tmp_path / "data.jsonl", lines(row))
    assert dataset.records == (record,)
    told = [warning for warning in dataset.warnings if "preference" in warning]
    assert len(told) == ("chosen" in row)
    assert len(dataset.warnings) == len(told)
    if isinstance(row.get("messages", [USER])[0]["content"], list):
        return  # beside a string, which Parquet cannot hold
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "data.parquet")
    assert read_dataset(str(tmp_path / "data.parquet"), SourcePolicy()).records == (record,)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, HELLO]}, "'image_url'"),
    ({"messages": [{"role": "user", "content": None}, HELLO]}, "null"),
    ({"messages": [USER]}, "assistant"),
    ({"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]}, '"name"'),
    ({"instruction": "Hi", "output": "Hello", "history": "before"}, "pairs"),
    ({"instruction": "Hi", "output": "Hello", "system": 7}, "not a string"),
    ({"chosen": "Hello", "rejected": "No"}, "has no question"),
    ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "add"}]}, "not JSON"),
]


@pytest.mark.parametrize(("row", "said"), BAD)
def test_a_record_of_another_form_that_cannot_be_used_is_left_out(tmp_path: Path, row: Any, said: str) -> None:
    good = HELLO if "messages" in row else None
    rest = {"messages": [USER, good]} if good else {"instruction": "Hi", "output": "Hello"}
    if "chosen" in row:
        rest = {"prompt": "Hi", "chosen": "Hello", "rejected": "No"}
    if "conversations" in row:
        rest = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    dataset = read(tmp_path / "data.jsonl", lines(rest, row))
    assert len(dataset.records) == 1
    assert "1 record was left out (line 2)" in dataset.warnings[0]
    assert said in dataset.warnings[0]


def test_columns_with_words_that_are_not_used_are_named_once(tmp_path: Path) -> None:
    row = {"instruction": "Hi", "output": "Hello", "id": "x1", "score": 3, "rationale": "because of it", "tags": ["a"]}
    warnings = read(tmp_path / "data.jsonl", lines(row, row)).warnings
    assert len(warnings) == 1
    assert "'rationale'" in warnings[0]
    assert "'tags'" in warnings[0]
    assert "'id'" not in warnings[0]


@pytest.mark.parametrize("row", [{"prompt": "Hi", "completion": "Hello"}, {"messages": [USER, HELLO]}])
def test_an_answer_that_is_rated_false_is_not_learned(tmp_path: Path, row: dict[str, Any]) -> None:
    bad = json.loads(json.dumps(row).replace("Hello", "Go away")) | {"label": False}
    dataset = read(tmp_path / "data.jsonl", lines(row | {"label": True}, bad, bad))
    assert dataset.records == read(tmp_path / "one.jsonl", lines(row)).records
    assert [warning for warning in dataset.warnings if "2 records are not used" in warning] == list(dataset.warnings)
    with pytest.raises(DatasetInvalidError, match='"label" is false'):
        read(tmp_path / "data.jsonl", lines(bad))
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, which is optional")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([row | {"label": True}, bad]), tmp_path / "data.parquet")
    assert read_dataset(str(tmp_path / "data.parquet"), SourcePolicy()).records == dataset.records


@pytest.mark.parametrize("good", [True, 1, 1.0, "true", "1", "1.0"])
@pytest.mark.parametrize("bad", [False, 0, 0.0, "False", "0", "0.0"])
@pytest.mark.parametrize("row", [{"prompt": "Hi", "completion": "Hello"}, {"messages": [USER, HELLO]}])
def test_a_rating_is_one_in_every_type(tmp_path: Path, row: dict[str, Any], good: Any, bad: Any) -> None:
    undesired = json.loads(json.dumps(row).replace("Hello", "Go away")) | {"label": bad}
    dataset = read(tmp_path / "data.jsonl", lines(row | {"label": good}, undesired))
    assert dataset.records == read(tmp_path / "one.jsonl", lines(row)).records
    assert [warning for warning in dataset.warnings if "1 records are not used" in warning] == list(dataset.warnings)
    if "prompt" in row:
        table = f"prompt,completion,label\nHi,Hello,{good}\nHi,Go away,{bad}\n"
        assert read(tmp_path / "data.csv", table).records == dataset.records


def test_another_label_than_a_rating_changes_nothing(tmp_path: Path) -> None:
    content = "prompt,completion,label\nHi,Hello,1\nHi,Hello,false alarm\nHi,Hello,\nHi,No,FALSE\n"
    dataset = read(tmp_path / "data.csv", content)
    assert dataset.records == (InstructionRecord("Hi", "", "Hello"),) * 3
    assert "1 records are not used" in dataset.warnings[0]
    assert "'label'" in dataset.warnings[1]


def test_numbers_of_classes_are_not_taken_for_ratings(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": "Hello", "label": number} for number in (1, 2, 3)]
    dataset = read(tmp_path / "data.jsonl", lines(*rows))
    assert len(dataset.records) == 3
    assert dataset.warnings == ("These columns of the dataset are not used: 'label'.",)
    with pytest.raises(DatasetInvalidError, match="may be no rating") as caught:
        read(tmp_path / "data.jsonl", lines(*rows, rows[0] | {"label": 0}))
    assert "Rename" in caught.value.remedy


_INDEXED = [
    ({"prompt": "Hi", "completion": "Hello"}, InstructionRecord("Hi", "", "Hello")),
    ({"instruction": "Hi", "input": "", "output": "Hello"}, InstructionRecord("Hi", "", "Hello")),
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, HI),
    ({"question": "Sky", "choices": '["blue", "red"]', "answer": "1"}, ChoicesRecord("Sky", ("blue", "red"), 1)),
    ({"text": "Hi"}, TextRecord("Hi")),
]


@pytest.mark.parametrize(("row", "record"), _INDEXED)
def test_a_column_without_a_name_is_in_no_record(tmp_path: Path, row: dict[str, Any], record: Record) -> None:
    """pandas writes its index as one."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([["", *row], ["0", *row.values()], ["1", *row.values()]])
    assert read(tmp_path / "data.csv", text.getvalue()).records == (record, record)
    if "choices" not in row:
        dataset = read(tmp_path / "data.jsonl", lines({"": "Some words."} | row))
        assert dataset.records == (record,)
        assert "''" in dataset.warnings[-1]


_TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.mark.parametrize("field", ["weight", "train", "training", "trainable", "loss", "mask", "images", "thought"])
def test_a_field_of_a_message_that_is_not_used_is_named(tmp_path: Path, field: str) -> None:
    said = {"images": ["a.png"], "thought": "let me see"}
    rows: list[dict[str, list[dict[str, Any]]]] = [
        {"messages": [USER, HELLO]}, {"conversations": _TURNS}, {"prompt": [USER], "completion": [HELLO]},
        {"prompt": [USER], "chosen": [HELLO]}, {"chosen": [USER, HELLO]},
    ]  # fmt: skip
    for row in rows:
        *rest, (column, messages) = row.items()
        for value in [said[field]] if field in said else [0, False] if field != "mask" else [1]:
            changed = {column: [*messages[:-1], messages[-1] | {field: value}]}
            dataset = read(tmp_path / "data.jsonl", lines(dict(rest) | changed))
            assert dataset.records == (HI,)
            assert dataset.warnings[-1] == f"These columns of the dataset are not used: '{field} of a message'."
        if field not in said and field != "mask":
            usual = {column: [*messages[:-1], messages[-1] | {field: 1, "id": "x1"}]}
            warnings = read(tmp_path / "data.jsonl", lines(dict(rest) | usual)).warnings
            assert not any("columns" in warning for warning in warnings)


_FIELDS = {"input": "Some input.", "prompt": "Some prompt.", "tools": [{"name": "add"}], "system": "Be kind."}
_BODIES: list[dict[str, Any]] = [
    {"prompt": [USER], "completion": "Hello"},
    {"prompt": "Hi", "completion": [HELLO]},
    {"prompt": "Hi", "completion": "Hello"},
    {"prompt": [USER], "chosen": "Hello"},
    {"prompt": "Hi", "chosen": "Hello"},
    {"chosen": [USER, HELLO]},
    {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello"},
    {"conversations": _TURNS[:1], "chosen": "Hello"},
    {"messages": [USER, HELLO]},
    {"conversations": _TURNS},
]


@pytest.mark.parametrize("field", _FIELDS)
@pytest.mark.parametrize("body", _BODIES)
def test_every_text_of_a_row_is_in_its_record_or_named_in_a_warning(
    tmp_path: Path, body: dict[str, Any], field: str
) -> None:
    if field in body or (field == "prompt" and isinstance(body.get("chosen"), str) and "conversations" not in body):
        return  # the prompt is the question itself
    dataset = read(tmp_path / "data.jsonl", lines(body | {field: _FIELDS[field]}))
    (record,) = dataset.records
    used = "add" in str(record) if field == "tools" else str(_FIELDS[field]) in str(record)
    assert used != any(f"'{field}'" in warning for warning in dataset.warnings)


def test_what_the_conversation_has_already_is_not_added_and_not_named(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Read this: some words. Hi"}
    rows: list[dict[str, Any]] = [
        {"prompt": [asked], "context": "some words.", "completion": "Hello"},
        {"prompt": asked["content"], "input": "some words.", "chosen": [asked, HELLO]},
        {"prompt": [asked], "chosen": [asked, HELLO]},
    ]
    for row in rows:
        dataset = read(tmp_path / "data.jsonl", lines(row))
        assert dataset.records == (chat(("user", asked["content"]), ("assistant", "Hello")),)
        assert not any("columns" in warning for warning in dataset.warnings)


def test_words_without_spaces_are_words(tmp_path: Path) -> None:
    row = {"instruction": "你好", "output": "您好", "persona": "你是一个有用的助手", "author": "José"}
    (warning,) = read(tmp_path / "data.jsonl", lines(row)).warnings
    assert warning == "These columns of the dataset are not used: 'persona'."


@pytest.mark.parametrize(
    "said", ["[1, 2, 3]", '{"a": 1}', "[]", "[[1], [2]]", '[{"from": "here"}]', "[brackets] first", "{not json"]
)
def test_text_in_a_cell_stays_text_whatever_it_looks_like(tmp_path: Path, said: str) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["instruction", "input", "output"], ["Sort it", said, said], [said, "", "b"]])
    dataset = read(tmp_path / "data.csv", text.getvalue())
    assert dataset.records == (InstructionRecord("Sort it", said, said), InstructionRecord(said, "", "b"))


def test_messages_in_cells_are_messages(tmp_path: Path) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(
        [["prompt", "completion"], [json.dumps([USER]), json.dumps([HELLO])], [json.dumps([USER]), "Hello"]]
    )
    assert read(tmp_path / "data.csv", text.getvalue()).records == (HI, HI)


def test_empty_lines_before_a_table_do_not_matter(tmp_path: Path) -> None:
    dataset = read(tmp_path / "data.csv", "\n \n" + FORMS["semicolons.csv"] + "one cell\n")
    assert dataset.records == RECORDS
    assert "(line 14)" in dataset.warnings[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("twice.csv", "text,note,text\na,b,c\n", "the name 'text'"),
        ("far.json", '[{"text": "a"}, {"text": b}' + ', {"text": "a"}' * 700_000 + "]", "record 2 is not JSON"),
        ("header.csv", "text,note\n", "no records"),
        ("open.json", '[{"text": "a"}, {"text": "b"}', "not closed"),
        ("after.json", '[{"text": "a"}] {"text": "b"}', "follows"),
        ("broken.json", '[{"text": "a"}, {"text" "b"}]', "record 2"),
        ("deep.json", "[" * 200_000, "record 1"),
        ("quote.csv", 'text\na\n"b\n' + "c\n" * 50, "line 3 opens a quote"),
        ("huge.csv", 'text\n"' + ("a" * 2**16 + "\n") * 2**8, "longer than"),
        ("none.csv", "a,b\n1,2\n", "'a', 'b'"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(DatasetInvalidError, match=said):
        read(tmp_path / name, content)


def test_a_row_with_other_cells_than_the_header_is_left_out_and_lists_are_read_in_cells(tmp_path: Path) -> None:
    text = 'context,choices,label\nSky,"[""blue"", ""red""]",1\nSea,"[""blue"", ""red""]",0,9\n'
    dataset = read(tmp_path / "data.csv", text)
    assert dataset.records == (ChoicesRecord("Sky", ("blue", "red"), 1),)
    assert "line 3" in dataset.warnings[0]
    assert "4 cells" in dataset.warnings[0]
    assert read(tmp_path / "data.csv", text.replace('",1', '",1.0')).records == dataset.records
    assert read(tmp_path / "data.csv", text.replace("context", "question").replace("label", "answer")).records == (
        ChoicesRecord("Sky", ("blue", "red"), 1),
    )


_LEADING_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_LETTERS = st.text("ab .\n!?。д", max_size=400)


@settings(max_examples=100, deadline=None)
@given(text=_LETTERS, most=st.integers(1, 60))
def test_passages_lose_nothing_and_keep_their_length(text: str, most: int) -> None:
    for parts in (list(passages(text, most)), paragraphs(text, most)):
        assert running_text(parts) == text
        assert all(len(part.text) + len(part.end) <= max(most, 1) or "\n\n" in part.end for part in parts)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text("ab \n\r,", max_size=300))
def test_a_text_file_is_read_as_its_paragraphs_whatever_is_in_it(tmp_path: Path, text: str) -> None:
    if not text.strip():
        return
    records = read(tmp_path / "data.txt", text).records
    unified = text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    assert running_text(records) == _LEADING_BLANK_LINES.sub("", unified).rstrip() + "\n\n"
    assert all(isinstance(record, TextRecord) and record.text.strip() for record in records)


def test_indentation_and_blank_lines_stay_as_they_are_up_to_the_training_text(tmp_path: Path) -> None:
    functions = [f"    def f{index}(self):\n\n\n        x = {index}\n\n\treturn {index}\n" for index in range(60)]
    text = "\n\n" + "\n".join(functions) + "end"
    records = read(tmp_path / "code.txt", text).records
    assert running_text(records) == text[2:] + "\n\n"
    wide = "text" + " " * 9000 + "\n" + " " * 9000 + "end"
    assert running_text(read(tmp_path / "wide.txt", wide).records) == wide + "\n\n"
    split = split_records(TextDataset("text", records, True, 0, ""), seed=0, share=0.1)
    sides = running_text(split.train) + running_text(split.held_out)
    indented = [line for line in text.split("\n") if line.strip()]
    assert sorted(line for line in sides.split("\n") if line.strip()) == sorted(indented)


def long_documents() -> Iterator[tuple[str, str]]:
    """One text each: without paragraphs, without lines, without spaces, without sentences."""
    yield "english", " ".join(f"Sentence {index} says so." for index in range(3000))
    yield "russian", " ".join(f"Предложение номер {index}." for index in range(3000))
    yield "chinese", "".join(f"第{index}句话说完了。" for index in range(3000))
    yield "letters", "".join(chr(0x4E00 + index * index % 19_997) for index in range(20_000))
    yield "lines", "\n".join(f"line {index}" for index in range(3000))


@pytest.mark.parametrize(("name", "text"), list(long_documents()))
@pytest.mark.parametrize("form", ["txt", "jsonl", "jsonl with others"])
def test_one_long_document_is_divided_without_loss(tmp_path: Path, name: str, text: str, form: str) -> None:
    others = [f"Little document {index}." for index in range(25)] if form == "jsonl with others" else []
    content = text if form == "txt" else lines({"text": text}, *({"text": other} for other in others))
    dataset = read(tmp_path / f"{name}.{form.split()[0]}", content)
    split = split_records(dataset, seed=0, share=0.1)
    sizes = [len(running_text(side)) for side in (split.train, split.held_out)]
    assert 0.05 < sizes[1] / sum(sizes) < 0.16
    letters = sorted("".join(running_text([*split.train, *split.held_out]).split()))
    assert letters == sorted("".join([*text.split(), *"".join(others).split()]))
    assert "\n\n" not in running_text(split.held_out).strip() or others


class _EndedError(Exception):
    pass


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.jsonl.gz", "blank.jsonl", "blank.json"])
def test_a_check_of_any_form_ends_when_it_is_told_to(tmp_path: Path, name: str) -> None:
    rows = 50_000
    content = {
        "a.jsonl": b'{"text":"a b"}\n' * rows,
        "a.json": b'{"data":[' + b'{"text":"a b"},' * rows + b'{"text":"c"}]}',  # one line, one object
        "a.csv": b"text\n" + b"a b\n" * rows,
        "a.txt": b"a b\n\n" * rows,
        "a.jsonl.gz": gzip.compress(b'{"text":"a b"}\n' * rows),
        "blank.jsonl": b"\n" * 10 * rows,
        "blank.json": b"\n" * 10 * rows,
    }[name]
    (tmp_path / name).write_bytes(content)
    calls = 0

    def check_stop() -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise _EndedError

    with pytest.raises(_EndedError):
        inspect_dataset(str(tmp_path / name), SourcePolicy(), check_stop)
