"""A model hub on a free port: as much of the hub's protocol as ``huggingface_hub`` uses to read repositories."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

_API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+))?"
)
_RESOLVE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class _Repository:
    directory: Path
    gated: bool
    commit: str


@dataclass
class HubServer:
    """A running hub. ``requests`` lists method and path of everything that was asked, ``authorizations`` with
    which header."""

    url: str
    token: str = "hub-token"
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    failing: bool = False
    trickling: Literal["", "headers", "body"] = ""
    """What is sent one byte at a time and without end: the head of every answer, or its body."""
    ended: threading.Event = field(default_factory=threading.Event)
    _repositories: dict[tuple[str, str], _Repository] = field(default_factory=dict)

    def add_model(self, name: str, directory: Path, *, gated: bool = False) -> str:
        """Serve ``directory`` as the model ``name`` and return its commit; gated ones ask for ``token``."""
        return self._add("models", name, directory, gated)

    def add_dataset(self, name: str, directory: Path, *, gated: bool = False) -> str:
        """Serve ``directory`` as the dataset ``name`` and return its commit."""
        return self._add("datasets", name, directory, gated)

    def _add(self, kind: str, name: str, directory: Path, gated: bool) -> str:
        commit = hashlib.sha1(f"{kind}/{name}".encode()).hexdigest()
        self._repositories[kind, name] = _Repository(directory, gated, commit)
        return commit

    def find(self, kind: str, name: str) -> _Repository | None:
        """The repository ``name``, if it is served."""
        return self._repositories.get((kind, name))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: pytest shows what matters."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.authorizations.append(self.headers.get("Authorization", ""))
        if self.hub.failing:
            self._send(503, b"")
        elif match := _RESOLVE.fullmatch(path):
            self._resolve("datasets" if match["kind"] else "models", match)
        elif match := _API.fullmatch(path):
            self._describe(match)
        else:
            self._refuse(404, "EntryNotFound")

    def _describe(self, match: re.Match[str]) -> None:
        repository = self.hub.find(match["kind"], match["name"])
        if repository is None:
            self._refuse(404 if self._has_token() else 401, "RepoNotFound")
        elif match["revision"] not in (None, "main", repository.commit):
            self._refuse(404, "RevisionNotFound")
        elif match["what"] == "tree":
            entries = [{"type": "file", "path": name, **_blob(path)} for name, path in _files(repository)]
            self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
        else:
            info = {
                "id": match["name"], "sha": repository.commit, "private": False, "tags": [], "downloads": 0,
                "gated": "manual" if repository.gated else False,
                "siblings": [{"rfilename": name, **_blob(path)} for name, path in _files(repository)],
            }  # fmt: skip
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, kind: str, match: re.Match[str]) -> None:
        repository = self.hub.find(kind, match["name"])
        if repository is None:
            return self._refuse(404 if self._has_token() else 401, "RepoNotFound")
        if repository.gated and not self._has_token():
            return self._refuse(401, "GatedRepo")
        if match["revision"] not in ("main", repository.commit):
            return self._refuse(404, "RevisionNotFound")
        path = dict(_files(repository)).get(match["path"])
        if path is None:
            return self._refuse(404, "EntryNotFound", {"X-Repo-Commit": repository.commit})
        return self._send_file(path, match["path"], repository.commit)

    def _send_file(self, path: Path, name: str, commit: str) -> None:
        body = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        status = 200
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), min(int(wanted[2] or len(body) - 1), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            body = body[first : last + 1]
            status = 206
        if self.command == "GET":
            self.hub.sent[name] = self.hub.sent.get(name, 0) + len(body)
        self._send(status, body, headers)

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self.hub.trickling:
            return self._trickle()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return None

    def _trickle(self) -> None:
        if self.hub.trickling == "body":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        with suppress(OSError):  # the client has gone
            while not self.hub.ended.wait(0.02):
                self.wfile.write(b"x")
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    """A server whose end also ends the connections that clients keep open."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._connections: list[socket.socket] = []

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        self._connections.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in self._connections:
            with suppress(OSError):  # the client has closed it already
                connection.shutdown(socket.SHUT_RDWR)


def _files(repository: _Repository) -> list[tuple[str, Path]]:
    paths = sorted(path for path in repository.directory.rglob("*") if path.is_file())
    return [(path.relative_to(repository.directory).as_posix(), path) for path in paths]


def _blob(path: Path) -> dict[str, object]:
    return {"size": path.stat().st_size, "blobId": hashlib.sha1(path.name.encode()).hexdigest()}


@contextmanager
def run_hub_server() -> Iterator[HubServer]:
    """A hub on 127.0.0.1, until the block ends."""
    server = _Server()
    hub = HubServer(url=f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
