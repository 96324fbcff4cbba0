"""Linux control groups (cgroups) of this process, which limit containers and services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy: the group at its top, the directory of that group, and the controllers of the hierarchy."""

    version: int
    top: str
    directory: Path
    controllers: frozenset[str]


def cpu_quota(process: Path = PROCESS) -> float | None:
    """CPU time that the process may use, in CPUs: the least limit of its group and the groups above; ``None``: no
    limit.

    ``process`` is the process's directory below ``/proc``. If it is missing, as outside Linux, there is no limit.
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
    except (OSError, ValueError, ZeroDivisionError):  # missing files, or "max"
        return None
    return found if found > 0 else None


def memory_left(process: Path = PROCESS) -> int | None:
    """Bytes that the process may still allocate: the least that its group and the groups above leave; ``None``: no
    limit.

    File pages that were not used lately count as free: the kernel drops them first.
    """
    return min((left for group in _groups("memory", process) if (left := _left_in(group)) is not None), default=None)


def memory_limit(process: Path = PROCESS) -> int | None:
    """Memory limit in bytes of the process's group and the groups above; ``None``: no limit."""
    limits = [limit for directory in _groups("memory", process) if (limit := _limit_of(directory)) is not None]
    return min(limits, default=None)


def _limit_of(group: Path) -> int | None:
    name = "memory.max" if (group / "memory.max").is_file() else "memory.limit_in_bytes"
    try:
        return int((group / name).read_text())
    except (OSError, ValueError):  # missing file, or "max"
        return None


def _left_in(group: Path) -> int | None:
    version_2 = (group / "memory.max").is_file()
    limit, used = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    unused_pages = "inactive_file" if version_2 else "total_inactive_file"
    try:
        left = int((group / limit).read_text()) - int((group / used).read_text())
        for line in (group / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            left += int(value) if name == unused_pages else 0
    except (OSError, ValueError):  # missing files, or "max"
        return None
    return max(left, 0)


def _groups(controller: str, process: Path) -> Iterator[Path]:
    """Directories of the process's groups that ``controller`` may limit, each followed by those of its parents."""
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
    """Directory of the group ``path``, followed by its parents up to the top of ``mount``."""
    top = PurePosixPath(mount.top)
    inside = path.relative_to(top) if path.is_relative_to(top) and ".." not in path.parts else PurePosixPath()
    for part in (inside, *inside.parents):
        yield mount.directory / part


def _membership(line: str) -> tuple[str, str]:
    """Controllers (not named in version 2) and group of a line of ``cgroup`` (man 7 cgroups)."""
    _, controllers, path = line.split(":", 2)
    return controllers, path


def _mount(line: str) -> _Mount | None:
    """A line of ``mountinfo`` if it is about control groups (man 5 proc)."""
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
