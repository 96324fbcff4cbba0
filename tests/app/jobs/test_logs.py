"""What the processes of a job printed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session, sessionmaker

from app.jobs.logs import KEPT_BYTES, keep_log, readable
from tests.app.jobs.conftest import MakeJob


def test_the_end_of_each_attempts_output_is_kept_and_a_retried_job_begins_anew(
    application: FastAPI,
    client: TestClient,
    make_job: MakeJob,
    sessions: sessionmaker[Session],
    authorize: Callable[..., dict[str, str]],
) -> None:
    application.state.store.check()  # it must be known before files are deleted from it
    job_id = make_job("running")
    assert client.get(f"/jobs/{job_id}/logs").json() == {"logs": []}
    for attempt, output in ((1, b"first"), (2, b"x" * 100_000), (2, b"y" * 100_000)):
        with sessions.begin() as session:
            keep_log(session, job_id, attempt, output, 1_000_000)
    first, second = client.get(f"/jobs/{job_id}/logs").json()["logs"]
    assert (first["attempt"], first["text"], first["omitted_bytes"]) == (1, "first", 999_995)
    assert (second["attempt"], second["text"]) == (2, "y" * KEPT_BYTES)
    with sessions.begin() as session:
        keep_log(session, job_id, 1, b"again\0", 6)
    (only,) = client.get(f"/jobs/{job_id}/logs").json()["logs"]
    assert (only["text"], only["omitted_bytes"]) == ("again", 0)
    assert client.get(f"/jobs/{job_id}/logs", headers=authorize("other", "read")).status_code == 404
    client.post(f"/jobs/{job_id}/cancel")
    assert client.delete(f"/jobs/{job_id}").status_code == 204
    assert client.get(f"/jobs/{job_id}/logs").status_code == 404


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (b"plain\n", "plain\n"), (b" 10%\r 50%\r100%\ndone\r\n", "100%\ndone\n"), (b"\x1b[31mred\x1b[0m", "red"),
        (b"tab\there", "tab\there"), (b"\xff\xfe", "\ufffd\ufffd"), (b"a\0b", "ab"),
        (b"\x1b]0;title\x07text", "text"),
    ],
)  # fmt: skip
def test_a_log_is_text_without_what_only_a_terminal_understands(output: bytes, text: str) -> None:
    assert readable(output) == text


@given(st.binary(max_size=300))
def test_any_output_is_text_that_a_database_takes(output: bytes) -> None:
    text = readable(output)
    assert "\0" not in text
    assert "\x1b" not in text
    assert readable(text.encode()) == text
