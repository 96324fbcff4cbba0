"""Throughput of a signed download beside nginx on the same file, or a bare file server where nginx is missing."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from app.database import create_database_engine, utc_now
from app.jobs.models import Artifact, Job
from app.store import open_store
from bench.load.clients import Client
from bench.load.parts import Served, answers, resident_bytes
from tests.server_processes import free_port, start_server, wait_until

_NAME = "model.gguf"


@dataclass
class DownloadFigures:
    """Bytes per second of ours and of what it is put beside, by name, and how much the service's memory grew."""

    beside: str
    ours: float
    theirs: float
    grown_bytes: int


def measure_downloading(service: Served, size: int, turns: int) -> DownloadFigures:
    """Download a file of ``size`` bytes ``turns`` times from each, in turns."""
    job_id, file = _artifact(service, size)
    name, port = _other_server(service, file.parent)
    theirs = f"http://127.0.0.1:{port}/{file.name}"
    if not wait_until(lambda: answers(f"http://127.0.0.1:{port}/")):
        raise RuntimeError(f"{name} did not start.")
    ours_url = _signed(service, job_id)
    _fetch(ours_url), _fetch(theirs)
    before = resident_bytes(service.pid)
    ours = there = 0.0
    for _ in range(turns):
        ours += _fetch(_signed(service, job_id))
        there += _fetch(theirs)
    grown = resident_bytes(service.pid) - before
    return DownloadFigures(name, turns * size / ours, turns * size / there, grown)


def _artifact(service: Served, size: int) -> tuple[str, Path]:
    """A job with one file in the store, and a copy of the file where another server may read it."""
    client = Client(service.url)
    body = {"model": str(service.sources / "model"), "dataset": str(service.sources / "text.txt"),
            "sequence_length": 64, "memory_budget": 300_000}  # fmt: skip
    job_id = json.loads(client.send("POST", "/jobs", body)[1])["id"]
    folder = service.folder / "files"
    folder.mkdir()
    file = folder / _NAME
    with file.open("wb") as stream:
        for _ in range(size // 2**20):
            stream.write(os.urandom(2**20))
    key = f"jobs/{job_id}/artifacts/{_NAME}"
    engine = create_database_engine(service.settings.resolved_database_url)
    open_store(service.settings, engine).put_file(key, file)
    with Session(engine) as session, session.begin():
        session.get_one(Job, job_id).status = "succeeded"
        session.add(Artifact(job_id=job_id, name=_NAME, key=key, bytes=size, sha256="0" * 64, format="gguf",
                             created_at=utc_now()))  # fmt: skip
    engine.dispose()
    return job_id, file


def _signed(service: Served, job_id: str) -> str:
    parts = urlsplit(service.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.request("GET", f"/jobs/{job_id}/artifacts/{_NAME}")
    location = connection.getresponse().headers["Location"]
    connection.close()
    return str(location) if "://" in str(location) else service.url + str(location)


def _fetch(url: str) -> float:
    """Seconds that a whole download takes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=300)
    begin = time.perf_counter()
    connection.request("GET", f"{parts.path}?{parts.query}")
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"{url} answers {answer.status}")
    buffer = bytearray(2**20)
    while answer.readinto(buffer):
        pass
    connection.close()
    return time.perf_counter() - begin


def _other_server(service: Served, folder: Path) -> tuple[str, int]:
    port = free_port()
    nginx = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
    if nginx is None:
        command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
        start_server(service.processes, command, service.folder / "files.log")
        return "Python's http.server (nginx is not installed)", port
    config = service.folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {service.folder}/nginx.pid; error_log stderr; user root;\n"
        "events {}\n"
        f"http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; root {folder}; autoindex on; }} }}\n"
    )
    start_server(service.processes, [nginx, "-p", str(service.folder), "-c", str(config)], service.folder / "nginx.log")
    return "nginx", port
