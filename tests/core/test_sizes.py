"""What people write for a number of bytes, and what is refused rather than guessed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.settings import Settings
from qpruner_core.errors import BudgetInvalidError
from qpruner_core.sizes import LARGEST_SIZE, ByteSize, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("6G", 6 * 10**9), ("6g", 6 * 10**9), ("6GB", 6 * 10**9), ("6gb", 6 * 10**9), ("6 GB", 6 * 10**9),
     (" 6GB\n", 6 * 10**9), ("6\u00a0GB", 6 * 10**9), ("6GiB", 6 * 2**30), ("6gib", 6 * 2**30), ("6Gi", 6 * 2**30),
     ("6GIB", 6 * 2**30), (".5GB", 5 * 10**8), ("0.5GB", 5 * 10**8), ("+.5G", 5 * 10**8), ("130k", 130_000),
     ("130kb", 130_000), ("130KB", 130_000), ("1.15MB", 1_150_000), ("1.0000000001kB", 1000), ("64B", 64), ("64b", 64),
     ("64", 64), ("64.0", 64), (64, 64), (64.0, 64), (1e16, 10**16), ("2T", 2 * 10**12),
     (str(LARGEST_SIZE), LARGEST_SIZE)],
)  # fmt: skip
def test_a_size_is_understood(text: str | float, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["6Gb", "6Kb", "6Mb", "6Tb", "6Gib", "6GIb", "6 Gb", ".5Gb"])
def test_what_may_mean_bits_is_refused_as_such(text: str) -> None:
    with pytest.raises(BudgetInvalidError, match="bits") as caught:
        parse_bytes(text)
    assert "capital B" in caught.value.remedy


@pytest.mark.parametrize(
    "value",
    ["\uff16GB", "\u0666GB", "\u0967\u0968GB", "6\u00b2B", "\u00bdGB", "1e400GB", "1e3", "nan", "inf", "-inf", "NaNGB",
     "1_000", "1_000MB", "0", "0GB", "-1", "-6GB", "--6", "", " ", "GB", ".", ".GB", "6.", "6..5GB", "6,5GB", "1,000",
     "6 5GB", "0x10", "1/2GB", "6GBB", "6Gbit", "6Gbps", "6iB", "6PB", "6G B", "0.5", "0.5B", "1.5", "64.5B",
     "9" * 20, "9" * 400, "9" * 5000, "0." + "0" * 5000 + "1GB", "6" + " " * 10**6 + "GB", "6\0GB", "9999999999TB",
     10**5000, -(10**5000), 2**63, 0, -1, 1.5, float("nan"), float("inf"), -float("inf"), 1e300, True, None, [6], {}],
    ids=lambda value: f"{type(value).__name__} {value}"[:20] if not isinstance(value, int) else "int",
)  # fmt: skip
def test_everything_else_is_refused_in_a_short_sentence(value: Any) -> None:
    with pytest.raises(BudgetInvalidError) as caught:
        parse_bytes(value, field="a.b")
    assert caught.value.field == "a.b"
    assert len(str(caught.value)) < 250
    with pytest.raises(ValidationError):
        TypeAdapter(ByteSize).validate_python(value)


@given(st.integers(1, LARGEST_SIZE))
def test_a_whole_number_is_itself(size: int) -> None:
    assert parse_bytes(size) == parse_bytes(str(size)) == parse_bytes(f"{size}B") == size


@given(st.one_of(st.text("0123456789.,+-_eExkKmMgGiIbB \u0666\uff16", max_size=20), st.floats(), st.integers()))
def test_whatever_is_given_is_a_positive_size_or_refused(value: str | float) -> None:
    with suppress(BudgetInvalidError):
        assert 1 <= parse_bytes(value) <= LARGEST_SIZE


@given(st.integers(1, 10**14))
def test_what_is_shown_is_understood(size: int) -> None:
    assert abs(parse_bytes(format_bytes(size)) - size) <= max(0.06 * size, 1)


@pytest.mark.parametrize("name", ["MAX_DATASET_BYTES", "MAX_MODEL_BYTES", "MAX_BODY_BYTES"])
def test_the_operators_sizes_go_by_the_same_rules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"QPRUNER_{name}", "6G")
    assert getattr(Settings(), name.lower()) == 6 * 10**9
    for text in ("6Gb", "\u0666GB", "0", "1_000"):
        monkeypatch.setenv(f"QPRUNER_{name}", text)
        with pytest.raises(ValidationError):
            Settings()
