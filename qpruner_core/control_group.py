"""The control groups (cgroups) that this process belongs to, through which Linux limits containers and services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy: the group at its top, the directory where that group lies, and what limits its groups."""

    version: int
    top: str
    directory: Path
    controllers: frozenset[str]


def cpu_quota(process: Path = PROCESS) -> float | None:
    """CPUs' worth of time that the process may use, the least of its group's and of those above; ``None``: no limit.

    ``process`` is the process's directory below ``/proc``. Without one, as outside Linux, there is no limit.
    """
    quotas = [quota for directory in _groups("cpu", process) if (quota := _quota_of(directory)) is not None]
    return min(quotas, default=None)


def _quota_of(group: Path) -> float | None:
    try:
        if (group / "cpu.max").is_file():  # version 2
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = (group / "cpu.cfs_quota_us").read_text(), (group / "cpu.cfs_period_us").read_text()
        found = int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # no files, or "max"
        return None
    return found if found > 0 else None


def _groups(controller: str, process: Path) -> Iterator[Path]:
    """Directories of the process's groups that ``controller`` may limit, each followed by those of the groups above."""
    try:
        memberships = [_membership(line) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [_mount(line) for line in (process / "mountinfo").read_text().splitlines()]
    except (OSError, ValueError):
        return
    for controllers, path in memberships:
        version = 1 if controllers else 2
        if version == 1 and controller not in controllers.split(","):
            continue
        for mount in mounts:
            if mount is not None and mount.version == version and (version == 2 or controller in mount.controllers):
                yield from _up(mount, PurePosixPath(path))


def _up(mount: _Mount, path: PurePosixPath) -> Iterator[Path]:
    """The directory of the group ``path``, then those above it up to the top of ``mount``."""
    top = PurePosixPath(mount.top)
    inside = path.relative_to(top) if path.is_relative_to(top) and ".." not in path.parts else PurePosixPath()
    for part in (inside, *inside.parents):
        yield mount.directory / part


def _membership(line: str) -> tuple[str, str]:
    """Controllers, which version 2 does not name, and group of a line of ``cgroup`` (man 7 cgroups)."""
    _, controllers, path = line.split(":", 2)
    return controllers, path


def _mount(line: str) -> _Mount | None:
    """A line of ``mountinfo`` if it is of control groups (man 5 proc)."""
    before, _, after = line.partition(" - ")
    kind, _, options = [*after.split(" ", 2), "", ""][:3]
    if kind not in ("cgroup", "cgroup2"):
        return None
    _, _, _, top, directory = before.split(" ")[:5]
    return _Mount(
        version=2 if kind == "cgroup2" else 1,
        top=_unescaped(top),
        directory=Path(_unescaped(directory)),
        controllers=frozenset(options.split(",")),
    )


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
