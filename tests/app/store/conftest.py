"""Both stores, each empty and of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings
from app.store import ArtifactStore
from tests.known_store import open_known_store
from tests.s3 import S3Server


@pytest.fixture
def local_settings(tmp_path: Path) -> Settings:
    """Settings of an embedded installation in a temporary folder."""
    return Settings(_env_file=None, data_dir=tmp_path / "data")


@pytest.fixture
def s3_settings(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a store in a bucket of its own, below a prefix."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Settings(
        _env_file=None,
        data_dir=tmp_path / "data",
        store_url=f"s3://{s3_server.create_bucket()}/below/here",
        s3_endpoint_url=s3_server.endpoint_url,
        signing_key="0123456789abcdef" * 2,
    )


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def store_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of each store in turn."""
    settings = request.getfixturevalue(f"{request.param}_settings")
    assert isinstance(settings, Settings)
    return settings


@pytest.fixture
def store(store_settings: Settings) -> ArtifactStore:
    """Each store in turn, marked."""
    made = open_known_store(store_settings)
    made.check()
    return made
