"""Sends generated requests with a key of every scope to every operation of a service of its own (Schemathesis).

It fails on a status of 500 or more, and on an answer that the API's description does not have.

    python -m bench.fuzz_api [--cases N] [--seed N] [-- options of `st run`]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from app.database import create_database_engine, create_session_factory
from app.keys.scopes import SCOPES
from app.keys.service import create_key
from app.secrets import load_signing_key
from bench.load.parts import Served, served
from qpruner_client import Client

_CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip
_CONFIG = """
[checks]
enabled = false
{checks}

[[operations]]
include-path = "/readyz"  # without a worker it is not ready, and its description says so
checks.not_a_server_error.enabled = false

[parameters]
{parameters}

[dictionaries]
{dictionaries}

[generation.dictionaries]
string = {{ dictionary = "all", probability = 0.1 }}
"""
"""Half of the ids in paths are those of something that exists, and some texts in bodies, too."""


def main() -> int:
    """Parse, fuzz; the exit code of Schemathesis, or 1 if it made fewer cases than asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000, help="at least so many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="%(default)s")
    parser.add_argument("more", nargs="*", help="options of `st run`")
    given = parser.parse_args()
    with served(None) as service:
        report = service.folder / "report.ndjson"
        code = subprocess.run(_command(service, given, report), check=False).returncode  # noqa: S603 - our own
        cases = _count(report)
    print(f"{cases} cases")
    return code or (1 if cases < given.cases and not given.more else 0)


def _command(service: Served, given: argparse.Namespace, report: Path) -> list[str]:
    paths = httpx.get(f"{service.url}/openapi.json", timeout=60).json()["paths"]
    operations = sum(len(methods) for methods in paths.values())
    key = _key(service)
    config = service.folder / "schemathesis.toml"
    config.write_text(_config(_existing(service, key)))
    return [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{service.url}/openapi.json",
        "--header", f"Authorization: Bearer {key}", "--seed", str(given.seed),
        "--max-examples", str(-(-given.cases // operations)), "--continue-on-failure", "--request-timeout", "60",
        "--report", "ndjson", "--report-ndjson-path", str(report), *given.more,
    ]  # fmt: skip


def _config(existing: Mapping[str, Sequence[str]]) -> str:
    dictionaries = {**existing, "all": [value for values in existing.values() for value in values]}
    return _CONFIG.format(
        checks="\n".join(f"{name}.enabled = true" for name in _CHECKS),
        parameters="\n".join(
            f'"path.{name}" = {{ dictionary = "{name}", probability = 0.5 }}' for name in existing if name != "texts"
        ),
        dictionaries="\n".join(
            f"{name} = {{ values = {json.dumps(values)} }}" for name, values in dictionaries.items()
        ),
    )


def _existing(service: Served, key: str) -> dict[str, list[str]]:
    """Values by parameter of paths, and texts for bodies, of what is made here: jobs, datasets, a model, a webhook."""
    with Client(service.url, key) as client:
        datasets = [client.datasets.upload(service.sources / "text.txt").id for _ in range(2)]
        model = str(service.sources / "model")
        return {
            "job_id": [
                client.jobs.create(model=model, dataset=datasets[0], memory_budget=300_000, seed=seed).id
                for seed in range(3)
            ],
            "dataset_id": datasets,
            "model_id": [client.models.upload(service.sources / "model", wait=False).id],
            "webhook_id": [client.webhooks.create(url="https://example.com/hook").id],
            "texts": [model, "gguf", "bitsandbytes", "300kB"],
        }


def _key(service: Served) -> str:
    """A new key: a generated one would be refused before an operation sees its request."""
    engine = create_database_engine(service.settings.resolved_database_url)
    with create_session_factory(engine).begin() as session:
        _, key = create_key(session, load_signing_key(service.settings), "default", "fuzz", SCOPES)
    engine.dispose()
    return key


def _count(report: Path) -> int:
    """Cases in the report of a run."""
    cases = 0
    for line in report.read_text().splitlines():
        finished = json.loads(line).get("ScenarioFinished")
        if finished is not None:
            cases += len(finished["recorder"].get("cases", ()))
    return cases


if __name__ == "__main__":
    sys.exit(main())
