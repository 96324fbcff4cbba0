"""The Dockerfiles, linted, and what they copy and run, without building them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.s3 import S3Server, run_s3

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def test_there_is_a_dockerfile_for_the_api_and_one_for_the_worker() -> None:
    assert [path.name for path in DOCKERFILES] == ["api.Dockerfile", "worker.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run([hadolint, path], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_exists_and_is_let_through_by_dockerignore(path: Path) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    for line in path.read_text().splitlines():
        if not line.startswith("COPY ") or "--from=" in line:
            continue
        for source in line.split()[1:-1]:
            assert (ROOT / source).exists(), f"{path.name} copies {source}"
            assert source in let_through, f".dockerignore leaves out {source}"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_a_user_without_rights(path: Path) -> None:
    users = re.findall(r"^USER (.+)$", path.read_text(), flags=re.MULTILINE)
    assert users == ["10001:10001"]


def test_the_list_of_dependencies_is_that_of_the_project() -> None:
    script = [sys.executable, ROOT / "docker" / "list_dependencies.py", ROOT / "pyproject.toml"]
    lines = subprocess.run(script, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    assert any(line.startswith("torch>=") for line in lines)
    assert not any("pytest" in line or "qpruner-client" in line for line in lines)


def test_the_service_has_all_that_its_client_depends_on() -> None:
    """Images install the client without dependencies."""
    projects = [
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", "client/pyproject.toml")
    ]
    service, client = ({re.split(r"[<>=\[]", one)[0] for one in project["dependencies"]} for project in projects)
    assert client <= service
    assert not client & {"torch", "qpruner"}


def test_the_wheel_that_an_image_installs_carries_what_the_service_reads(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for package in ("qpruner_core", "app", "worker", "migrations"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path / "out", tmp_path]
    built = subprocess.run(pip, capture_output=True, text=True, timeout=120)
    if built.returncode:
        pytest.skip(f"the build backend could not be had: {built.stderr.strip().splitlines()[-1]}")
    [wheel] = (tmp_path / "out").glob("*.whl")
    names = subprocess.run([sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, text=True).stdout
    for needed in ("migrations/env.py", "app/page/static/index.html", "app/page/static/page.css", "worker/__init__.py"):
        assert needed in names, needed


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with run_s3() as server:
        yield server


@pytest.mark.service
def test_the_bucket_is_made_once_and_found_again(s3: S3Server, tmp_path: Path) -> None:
    environment = {
        **os.environ, **s3.environment, "PYTHONPATH": str(ROOT),
        "QPRUNER_STORE_URL": "s3://made-by-compose/service", "QPRUNER_S3_ENDPOINT_URL": s3.endpoint_url,
    }  # fmt: skip
    script = [sys.executable, ROOT / "docker" / "create_bucket.py"]
    outputs = [
        subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        for _ in range(2)
    ]
    assert [output.stdout.strip().rpartition(" ")[2] for output in outputs] == ["made.", "there."]
    client = boto3.client(
        "s3", endpoint_url=s3.endpoint_url, region_name="us-east-1",
        aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
    )  # fmt: skip
    assert "made-by-compose" in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def test_making_the_bucket_of_a_store_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "QPRUNER_STORE_URL": "file:///somewhere"}
    script = [sys.executable, ROOT / "docker" / "create_bucket.py"]
    answer = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 1
    assert "QPRUNER_STORE_URL" in answer.stderr
