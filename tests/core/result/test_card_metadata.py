"""The head of a model card: names without folders, and a licence that is read, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from qpruner_core.result.card_metadata import licence_of, short_name


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("/srv/models/secret-customer/Llama-3", "Llama-3"),
        ("../models/m.gguf", "m.gguf"),
        ("org/name@abc123", "name"),
        ("demo:smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("ds_123", "ds_123"),
        ("models/m/", "m"),
    ],
)
def test_a_name_has_no_folder_scheme_or_revision(reference: str, name: str) -> None:
    assert short_name(reference) == name


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: apache-2.0\ntags: [a]\n---\n# Model\n", "apache-2.0"),
        ("---\r\nlicense: mit\r\n---\r\n# Model\r\n", "mit"),
        ("---\ntags: [a]\n---\n", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\nlicense: {: [\n---\n", None),
        ("---\n- a\n---\n", None),
        ("# Model\nlicense: mit\n", None),
        ("---\nlicense: !!python/object/apply:os.system ['true']\n---\n", None),
        ("", None),
    ],
)
def test_the_licence_is_that_of_the_head_or_none(text: str, licence: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert licence_of(tmp_path) == licence


def test_a_model_without_a_readable_readme_has_no_licence(tmp_path: Path) -> None:
    assert licence_of(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert licence_of(tmp_path) is None
