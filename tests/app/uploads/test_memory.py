"""A file much larger than the memory that it goes through: sent by the client, taken by the service, checked."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import qpruner_client
from app.embedded import settings_environment
from app.settings import Settings
from qpruner_client import Client
from tests.known_store import migrate
from tests.server_processes import free_port, start_server, wait_until
from tests.uploading import peak_of

SIZE = 500 * 2**20
BOUND = 64 * 2**20
ROOT = Path(qpruner_client.__file__).parents[2]
SEND = """
import sys
from qpruner_client import Client
from tests.uploading import peak_of
from tests.known_store import migrate
with Client(sys.argv[1]) as client:
    before = peak_of("self")
    print(client.models.upload(sys.argv[2], wait=False).id, peak_of("self") - before)
"""

pytestmark = [pytest.mark.service, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]


@pytest.mark.timeout(600)
def test_no_process_holds_more_than_a_piece_of_a_file(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", allow_hub=False)
    migrate(settings)
    environment = settings_environment(settings) | {"PYTHONPATH": str(ROOT)}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as stream:  # sparse
        stream.truncate(SIZE)
    script = str(Path(__file__).with_name("bounded.py"))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as processes:
        log = tmp_path / "serve.log"
        server = start_server(processes, [sys.executable, script, "serve", str(port)], log, environment=environment)
        assert wait_until(lambda: _answers(url), 60), log.read_text()
        before = peak_of(server.pid)
        model_id, grown = _run([sys.executable, "-c", SEND, url, str(folder)], environment).split()
        assert int(grown) < BOUND
        assert peak_of(server.pid) - before < BOUND
        with Client(url) as client:
            assert client.models.get(model_id).status == "checking"
            assert int(_run([sys.executable, script, "check"], environment)) < BOUND
            failed = client.models.get(model_id)
            assert failed.error is not None
            assert (failed.status, failed.error.field) == ("failed", "files"), failed.error  # every hash was right


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).is_success
    except httpx.TransportError:
        return False


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
