"""The form of API keys."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from app.keys.api_key import api_key_prefix, generate_api_key, hash_api_key


def test_a_key_has_prefix_secret_and_checksum() -> None:
    assert re.fullmatch(r"qp_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}[0-9A-Za-z]{6}", generate_api_key())


def test_no_two_keys_are_alike() -> None:
    assert len({generate_api_key() for _ in range(1000)}) == 1000


def test_a_fresh_key_is_recognised_by_its_prefix() -> None:
    key = generate_api_key()
    assert api_key_prefix(key) == key[3:11]


@given(position=st.integers(0, 49), replacement=st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"]))
def test_one_wrong_character_is_noticed_without_a_database(position: int, replacement: str) -> None:
    key = generate_api_key()
    mistyped = key[:position] + replacement + key[position + 1 :]
    assert mistyped == key or api_key_prefix(mistyped) is None


@given(st.text())
def test_what_is_no_key_is_none(text: str) -> None:
    assert api_key_prefix(text) is None


def test_the_hash_depends_on_key_and_secret() -> None:
    key, other = generate_api_key(), generate_api_key()
    assert hash_api_key(key, b"a") == hash_api_key(key, b"a")
    assert len({hash_api_key(key, b"a"), hash_api_key(key, b"b"), hash_api_key(other, b"a")}) == 3
