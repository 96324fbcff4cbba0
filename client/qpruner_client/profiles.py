"""Servers by name: a TOML file in the user's configuration directory.

::

    default = "lab"

    [servers.lab]
    url = "https://qpruner.lab.example"
    api_key = "qp_…"
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qpruner_client.errors import SettingsError

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Profile:
    """A server and its key."""

    url: str
    api_key: str | None = None


@dataclass(frozen=True)
class Profiles:
    """Servers by name, and the name of the default."""

    servers: Mapping[str, Profile] = field(default_factory=dict)
    default: str | None = None

    def find(self, name: str) -> Profile:
        """The server called ``name``. Raises :class:`SettingsError`."""
        if name not in self.servers:
            known = ", ".join(sorted(self.servers)) or "none yet"
            raise SettingsError(
                f"There is no server called {name!r}.", field="server", remedy=f"Known names in {path()}: {known}."
            )
        return self.servers[name]

    def with_server(self, name: str, profile: Profile) -> Profiles:
        """These and ``profile`` as ``name``, which is the default if it is the first. Raises :class:`SettingsError`."""
        if _NAME.fullmatch(name) is None:
            raise SettingsError(
                f"{name!r} is not a server name.", field="name", remedy="Use letters, digits, - and _, at most 64."
            )
        return Profiles({**self.servers, name: profile}, self.default or name)

    def without_server(self, name: str) -> Profiles:
        """These without ``name``. Raises :class:`SettingsError`."""
        self.find(name)
        left = {known: profile for known, profile in self.servers.items() if known != name}
        return Profiles(left, None if self.default == name else self.default)

    def with_default(self, name: str) -> Profiles:
        """These with ``name`` as the default. Raises :class:`SettingsError`."""
        self.find(name)
        return replace(self, default=name)


def path() -> Path:
    """The file: ``QPRUNER_SERVERS_FILE``, else ``qpruner/servers.toml`` in the user's configuration directory."""
    if named := os.environ.get("QPRUNER_SERVERS_FILE"):
        return Path(named)
    windows = os.environ.get("APPDATA") if sys.platform == "win32" else None
    folder = windows or os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "qpruner" / "servers.toml"


def load() -> Profiles:
    """Content of the file; empty if there is none. Raises :class:`SettingsError`."""
    try:
        values = tomllib.loads(path().read_text(encoding="utf-8"))
        servers = {name: _profile(table) for name, table in values.get("servers", {}).items()}
        default = values.get("default")
        if default is not None and default not in servers:
            raise ValueError(f"default names {default!r}, which is not a server")
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        raise SettingsError(f"{path()} cannot be read: {error.strerror}.", field="server") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path()} is invalid: {error}.", field="server",
            remedy='Write [servers.NAME] with url = "https://…" and, if needed, api_key = "qp_…".',
        ) from error  # fmt: skip
    return Profiles(servers, default)


def save(profiles: Profiles) -> None:
    """Write the file, readable only for its owner: it may hold keys. Raises :class:`SettingsError`."""
    lines = [f"default = {json.dumps(profiles.default)}"] if profiles.default else []
    for name, profile in sorted(profiles.servers.items()):
        lines += ["", f"[servers.{name}]", f"url = {json.dumps(profile.url)}"]
        lines += [f"api_key = {json.dumps(profile.api_key)}"] if profile.api_key else []
    target = path()
    fresh = target.with_name(f"{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines).lstrip() + "\n")
        fresh.replace(target)
    except OSError as error:
        raise SettingsError(f"{target} cannot be written: {error.strerror}.", field="server") from error


def _profile(table: Any) -> Profile:
    url, api_key = table.get("url"), table.get("api_key")
    if not isinstance(url, str) or not isinstance(api_key, str | None):
        raise ValueError("a server has a url, and an api_key that is text")
    return Profile(url, api_key)
