"""``qpruner doctor`` on real parts, in order and out of order."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.doctor.clocks import judge
from app.doctor.examination import run_checks
from app.doctor.finding import ok
from app.doctor.machine import check_vllm
from app.embedded import settings_environment
from app.settings import Settings
from tests.app.live_service import run_service
from tests.s3 import S3Server
from tests.server_processes import free_port
from tests.worker.installation import Installation, run_installation

RUN = CliRunner()


@contextmanager
def environment_of(settings: Settings, monkeypatch: pytest.MonkeyPatch, **others: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("QPRUNER_")]:
            patch.delenv(name)
        for name, value in (settings_environment(settings) | others).items():
            if name.startswith("QPRUNER_"):
                patch.setenv(name, value)
        yield


def examined(*, exit_code: int) -> dict[str, dict[str, Any]]:
    result = RUN.invoke(app, ["doctor", "--json"])
    assert result.exit_code == exit_code, result.output
    document = json.loads(result.output)
    assert document["healthy"] is (exit_code == 0)
    return {finding["part"]: finding for finding in document["findings"]}


def states(findings: dict[str, dict[str, Any]], *parts: str) -> list[str]:
    return [findings[part]["status"] for part in parts]


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.create_bucket()}/here"


@pytest.mark.service
def test_a_running_installation_at_scale_is_healthy(
    postgres_url: str, s3_url: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {
        "database_url": postgres_url, "store_url": s3_url, "s3_endpoint_url": s3_server.endpoint_url, "allow_hub": False
    }  # fmt: skip
    with run_installation(tmp_path, chosen, dispatching=False) as installation:
        installation.start_worker()
        for service in run_service(installation.settings):
            settings = installation.settings.model_copy(update={"port": int(service.url.rsplit(":", 1)[1])})
            with environment_of(settings, monkeypatch):
                findings = wait_for_worker()
    parts = ("settings", "database", "schema", "broker", "store", "workers", "service", "clocks", "device")
    assert states(findings, *parts) == ["ok"] * len(parts), findings
    assert "postgresql" in findings["database"]["detail"]
    assert "signed URL" in findings["store"]["detail"]
    assert all(part in findings["clocks"]["detail"] for part in ("database", "broker", "store"))


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with run_installation(tmp_path, {}, dispatching=False) as made:
        yield made


def wait_for_worker() -> dict[str, dict[str, Any]]:
    for _ in range(10):
        result = RUN.invoke(app, ["doctor", "--json"])
        if result.exit_code == 0:
            break
    return examined(exit_code=0)


@pytest.mark.service
def test_the_embedded_parts_are_looked_at_with_the_service_and_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", port=free_port(), allow_hub=False)
    with environment_of(settings, monkeypatch):
        findings = examined(exit_code=0)
        assert states(findings, "database", "schema", "broker", "service") == ["ok", "warning", "warning", "warning"]
        assert RUN.invoke(app, ["migrate"]).exit_code == 0
        findings = examined(exit_code=0)
        assert states(findings, "schema", "store") == ["ok", "warning"]
        assert "qpruner serve" in findings["store"]["remedy"]
    for service in run_service(settings):
        served = settings.model_copy(update={"port": int(service.url.rsplit(":", 1)[1])})
        with environment_of(served, monkeypatch):
            findings = examined(exit_code=1)  # no worker and no broker: the service is not ready
            assert states(findings, "store", "service") == ["ok", "failed"]
        stranger = served.model_copy(update={"data_dir": tmp_path / "another"})
        with environment_of(stranger, monkeypatch):
            assert RUN.invoke(app, ["migrate"]).exit_code == 0
            findings = examined(exit_code=1)  # the API at that address has another key and another store
            assert states(findings, "store") == ["failed"]
            assert "QPRUNER_SIGNING_KEY" in findings["store"]["remedy"]


@pytest.mark.service
def test_what_is_out_of_order_is_named_with_its_remedy(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = installation.settings.model_copy(update={"port": free_port()})
    (settings.data_dir / "store").rename(tmp_path / "unmounted")
    wrong = {
        "QPRUNER_LLAMA_CPP": str(tmp_path), "QPRUNER_REQUIRE_KEY": "true", "QPRUNER_MAX_QUEUE_JOBS": "7",
        "QPRUNER_HUB_ENDPOINT": "http://127.0.0.1:1",
    }  # fmt: skip
    with environment_of(settings, monkeypatch, **wrong):
        findings = examined(exit_code=1)
    assert states(findings, "store", "workers", "keys", "llama.cpp") == ["failed"] * 4
    assert states(findings, "settings", "hub", "service") == ["warning"] * 3
    assert "qpruner store adopt" in findings["store"]["remedy"]
    assert "QPRUNER_MAX_QUEUED_JOBS" in findings["settings"]["remedy"]
    assert all(finding["remedy"] for finding in findings.values() if finding["status"] in ("failed", "warning"))


@pytest.mark.service
def test_parts_that_are_away_are_told_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        _env_file=None, data_dir=tmp_path / "data", database_url="postgresql://me:s3cret@127.0.0.1:1/x",
        broker_url="redis://127.0.0.1:1/0", port=free_port(), signing_key="k" * 40, allow_hub=False,
    )  # fmt: skip
    with environment_of(settings, monkeypatch):
        findings = examined(exit_code=1)
        table = RUN.invoke(app, ["doctor"])
    assert states(findings, "database", "broker") == ["failed"] * 2
    assert states(findings, "schema", "store", "workers", "clocks") == ["skipped"] * 4
    assert table.exit_code == 1
    assert "s3cret" not in table.output


def python_with(tmp_path: Path, **modules: str) -> Path:
    """A Python whose environment has these packages, of these versions, and which runs real code."""
    for name, version in modules.items():
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text("raise SystemExit('it was imported')")
        folder = tmp_path / "packages" / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/packages exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return python


def test_the_named_python_with_vllm_is_reported_with_its_version(tmp_path: Path) -> None:
    python = python_with(tmp_path, vllm="0.11.2")
    found = check_vllm(Settings(_env_file=None, data_dir=tmp_path, vllm_python=python))
    assert (found.status, found.detail) == ("ok", f"vllm 0.11.2 in the environment of {python}")


def test_a_named_python_without_vllm_is_a_failure_with_a_remedy(tmp_path: Path) -> None:
    python = python_with(tmp_path)
    found = check_vllm(Settings(_env_file=None, data_dir=tmp_path, vllm_python=python))
    assert (found.status, found.detail) == ("failed", f"{python} has no vLLM: No module named 'vllm'")
    assert "QPRUNER_VLLM_PYTHON" in found.remedy


@pytest.mark.parametrize("content", [None, "#!/bin/sh\nexit 3\n", "not a program"])
def test_what_is_named_as_vllm_s_python_but_is_none_is_a_failure(tmp_path: Path, content: str | None) -> None:
    python = tmp_path / "python"
    if content is not None:
        python.write_text(content)
        python.chmod(0o755)
    found = check_vllm(Settings(_env_file=None, data_dir=tmp_path, vllm_python=python))
    assert (found.status, "QPRUNER_VLLM_PYTHON" in found.remedy) == ("failed", True), found


def test_a_setting_of_no_use_ends_the_examination(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPRUNER_DATABASE_URL", "garbage")
    result = RUN.invoke(app, ["doctor"])
    assert result.exit_code == 2
    assert "QPRUNER_DATABASE_URL" in result.stderr


def test_clocks_that_differ_are_judged_by_the_lease() -> None:
    assert judge({"database": 0.3, "broker": -1.9}, 30).status == "ok"
    assert judge({"database": 0.3, "broker": -4.0}, 30).status == "warning"
    found = judge({"database": 11.0, "broker": -4.0}, 30)
    assert (found.status, "database" in found.remedy) == ("failed", True)


def test_a_check_that_hangs_or_breaks_is_a_finding_and_holds_up_no_other() -> None:
    release = threading.Event()

    def hang() -> Any:
        release.wait(30)
        return ok("hangs", "")

    def breaks() -> Any:
        raise RuntimeError("a fault")

    found = run_checks({"hangs": hang, "breaks": breaks, "works": lambda: ok("works", "well")}, 0.3)
    release.set()
    assert [finding.status for finding in found] == ["failed", "failed", "ok"]
    assert "0.3 s" in found[0].detail
    assert "a fault" in found[1].detail
