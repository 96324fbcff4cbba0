"""What a client of the service does: upload, submit, follow, download and check. The demo's half of the wire."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

_PIECE = 2**20
_DROPS = 20  # streams that end without news before we give up; the service says why in its log
_LOADING_SECONDS = 60.0
_SILENCE_SECONDS = 60.0  # the stream sends a comment every 15 s


class DemoError(Exception):
    """The demo cannot go on; says why, and what to do."""


class JobClient:
    """Requests of one user to the service at ``url``. Every failure is a :class:`DemoError`."""

    def __init__(self, url: str, alive: Callable[[], bool] = lambda: True) -> None:
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(60.0, read=120.0))
        self._alive = alive

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def upload(self, path: Path) -> dict[str, Any]:
        """Register ``path`` as a dataset."""
        with path.open("rb") as stream:
            return self._json("POST", "/datasets", files={"file": (path.name, stream, "text/plain")})

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """Post a job."""
        return self._json("POST", "/jobs", json=body)

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now."""
        return self._json("GET", f"/jobs/{job_id}")

    def cancel_unfinished(self) -> None:
        """Cancel what an earlier demo was stopped in: this one would wait behind it."""
        for job in self._json("GET", "/jobs", params={"status": ["queued", "running"], "limit": 100})["jobs"]:
            self._json("POST", f"/jobs/{job['id']}/cancel")

    def follow(self, job_id: str) -> Iterator[dict[str, Any]]:
        """Every event of the job until it has ended, each once, also across a broken connection."""
        last, drops = 0, 0
        while drops < _DROPS:
            try:
                for event in self._stream(job_id, last):
                    last, drops = event["id"], 0
                    yield event
                if self.job(job_id)["status"] in ("succeeded", "failed", "cancelled"):
                    return
            except httpx.HTTPError:
                pass  # dropped: gone on from the last event
            if not self._alive():
                raise DemoError("The service has stopped.")
            drops += 1
            time.sleep(0.5)
        raise DemoError("The stream of events ends again and again without news.")

    def download(self, job_id: str, name: str, target: Path, on_bytes: Callable[[int, int], None]) -> dict[str, Any]:
        """Download an artifact through its signed URL to ``target`` and check size and SHA-256; its manifest entry.

        ``on_bytes`` is told the bytes so far and in all.
        """
        manifest = self._json("GET", f"/jobs/{job_id}/artifacts")["artifacts"]
        entry = next((one for one in manifest if one["name"] == name), None)
        if entry is None:
            raise DemoError(f"The job left no {name}.")
        signed = self._http.get(f"/jobs/{job_id}/artifacts/{name}", follow_redirects=False)
        if signed.status_code != 307:
            raise DemoError(f"The service answered {signed.status_code} instead of redirecting to a signed URL.")
        digest, size = hashlib.sha256(), 0
        with httpx.stream("GET", signed.headers["location"], timeout=60.0) as response, target.open("wb") as stream:
            if response.status_code != 200:
                raise DemoError(f"The signed URL answered {response.status_code}.")
            for piece in response.iter_bytes(_PIECE):
                stream.write(piece)
                digest.update(piece)
                size += len(piece)
                on_bytes(size, entry["bytes"])
        if (size, digest.hexdigest()) != (entry["bytes"], entry["sha256"]):
            raise DemoError(f"{name} is not what the manifest says: {size} bytes, SHA-256 {digest.hexdigest()}.")
        return dict(entry)

    def _stream(self, job_id: str, after: int) -> Iterator[dict[str, Any]]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
        timeout = httpx.Timeout(10.0, read=_SILENCE_SECONDS)
        with self._http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout) as response:
            if response.status_code not in (200, 204):
                response.read()
                raise DemoError(_explain(response))
            for line in response.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise DemoError(f"The service does not answer {method} {path}: {error}") from error
        if response.is_error:
            raise DemoError(_explain(response))
        return dict(response.json())


def _explain(response: httpx.Response) -> str:
    try:
        problem = response.json()
    except ValueError:
        return f"The service answered {response.status_code} to {response.request.url.path}."
    where = f"{problem['field']}: " if problem.get("field") else ""
    return f"{where}{problem.get('detail', '')} {problem.get('remedy', '')} ({problem.get('code')})".strip()


def complete(url: str, prompt: str, new_tokens: int, alive: Callable[[], bool]) -> str:
    """What the ``llama-server`` at ``url`` goes on with after ``prompt``, greedily, once its model is loaded.

    Raises:
        DemoError: it has ended, or is not ready after a minute.
    """
    deadline = time.monotonic() + _LOADING_SECONDS
    while alive() and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health").status_code == 200:
                body = {"prompt": prompt, "n_predict": new_tokens, "temperature": 0.0}
                answer = httpx.post(f"{url}/completion", json=body, timeout=120.0)
                answer.raise_for_status()
                return str(answer.json()["content"])
        time.sleep(0.1)
    raise DemoError("llama-server does not run the downloaded file.")
