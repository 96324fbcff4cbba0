"""``qpruner store``, and what the API says of a store that is unavailable."""

from __future__ import annotations

import json
from pathlib import Path

from fastapi.testclient import TestClient
from typer.testing import CliRunner

from app.cli import app
from app.store.identity import MARKER

RUN = CliRunner()


def _shown() -> dict[str, object]:
    result = RUN.invoke(app, ["store", "show", "--json"])
    assert result.exit_code == 0, result.output
    shown: dict[str, object] = json.loads(result.output)
    return shown


def test_showing_a_store_changes_nothing(data_dir: Path) -> None:
    shown = _shown()
    assert (shown["known_id"], shown["id_in_the_store"], shown["is_the_same"]) == (None, None, False)
    assert not (data_dir / "store").exists()


def test_a_new_store_is_adopted_in_place_of_a_lost_one(data_dir: Path) -> None:
    missing = RUN.invoke(app, ["store", "adopt"])
    assert missing.exit_code == 3
    assert "--create" in missing.stderr
    assert RUN.invoke(app, ["store", "adopt", "--create"]).exit_code == 0
    first = _shown()
    assert first["is_the_same"] is True
    (data_dir / "store" / MARKER).unlink()
    assert _shown()["is_the_same"] is False
    adopted = json.loads(RUN.invoke(app, ["store", "adopt", "--json"]).output)
    assert adopted["is_the_same"] is True
    assert adopted["known_id"] != first["known_id"]
    assert "is already the store" in RUN.invoke(app, ["store", "adopt"]).output


def test_readiness_says_that_the_store_is_away_and_requests_wait_for_it(client: TestClient, tmp_path: Path) -> None:
    state = client.app.state  # type: ignore[attr-defined]
    sent = client.post("/datasets", files={"file": ("a.txt", b"Some words. " * 400)})
    assert sent.status_code == 201, sent.text
    folder = state.settings.data_dir / "store"
    folder.rename(tmp_path / "unmounted")
    folder.mkdir()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["store"] == {
        "ready": False, "detail": "is unavailable: it is not the store that the database knows"
    }  # fmt: skip
    for refused in (
        client.post("/datasets", files={"file": ("b.txt", b"Some words. " * 400)}),
        client.delete(f"/datasets/{sent.json()['id']}"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert list(folder.iterdir()) == []
    folder.rmdir()
    (tmp_path / "unmounted").rename(folder)
    assert client.delete(f"/datasets/{sent.json()['id']}").status_code == 204
