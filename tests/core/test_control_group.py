"""Quotas of CPU time are found wherever the kernel keeps them, on trees of files as it shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qpruner_core.control_group import cpu_quota, memory_left


class Machine:
    """A ``/proc/self`` and what is mounted below ``/sys/fs/cgroup``, as files in ``root``."""

    def __init__(self, root: Path) -> None:
        self.process = root / "proc self"
        self.mounted = root / "cgroup fs"  # its space is escaped in mountinfo
        self.process.mkdir()
        self.mounted.mkdir()
        self._lines = ["22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw", "1 0 8:1 / / rw - ext4 /dev/sda rw"]

    def mount(self, kind: str, directory: str = "", *, top: str = "/", options: str = "rw") -> Path:
        path = self.mounted / directory
        path.mkdir(exist_ok=True)
        shown = str(path).replace(" ", r"\040")
        self._lines.append(f"41 31 0:38 {top} {shown} rw,nosuid shared:9 master:1 - {kind} {kind} {options}")
        (self.process / "mountinfo").write_text("\n".join(self._lines) + "\n")
        return path

    def member_of(self, *memberships: str) -> None:
        (self.process / "cgroup").write_text("\n".join(memberships) + "\n")

    @property
    def quota(self) -> float | None:
        return cpu_quota(self.process)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def limit(group: Path, text: str) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.max").write_text(text + "\n")


def limit_v1(group: Path, quota: int, period: int = 100000) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (group / "cpu.cfs_period_us").write_text(f"{period}\n")


def test_a_container_sees_its_own_group_at_the_top(machine: Machine) -> None:
    limit(machine.mount("cgroup2"), "150000 100000")
    machine.member_of("0::/")
    assert machine.quota == 1.5


def test_a_group_without_a_quota_has_that_of_the_groups_above(machine: Machine) -> None:
    top = machine.mount("cgroup2")
    limit(top / "system.slice", "400000 100000")
    limit(top / "system.slice" / "qpruner.service", "max 100000")
    machine.member_of("0::/system.slice/qpruner.service")
    assert machine.quota == 4


def test_the_least_quota_on_the_way_up_holds(machine: Machine) -> None:
    top = machine.mount("cgroup2")
    limit(top / "a", "100000 50000")
    limit(top / "a" / "b", "300000 50000")
    limit(top / "beside", "1000 100000")
    machine.member_of("0::/a/b/c")  # c is without the controller: it has no file
    assert machine.quota == 2


def test_version_1_is_read_where_its_controller_is_mounted(machine: Machine) -> None:
    limit_v1(machine.mount("cgroup", "cpu,cpuacct", options="rw,cpu,cpuacct") / "docker" / "abc", 250000)
    limit_v1(machine.mount("cgroup", "memory", options="rw,memory") / "docker" / "abc", 10000)
    machine.member_of("4:memory:/docker/abc", "3:cpu,cpuacct:/docker/abc", "1:name=systemd:/docker/abc", "0::/")
    assert machine.quota == 2.5


def test_version_1_in_a_container_that_names_its_group_as_the_host_does(machine: Machine) -> None:
    limit_v1(machine.mount("cgroup", "cpu", top="/docker/abc", options="rw,cpu"), 300000)
    machine.member_of("3:cpu:/docker/abc")
    assert machine.quota == 3


def test_both_versions_at_once_with_the_controller_in_one(machine: Machine) -> None:
    machine.mount("cgroup2", "unified")
    limit_v1(machine.mount("cgroup", "cpu", options="rw,cpu"), 50000)
    machine.member_of("1:cpu:/", "0::/user.slice")
    assert machine.quota == 0.5


def test_a_process_outside_of_what_is_mounted_has_the_quota_of_the_top(machine: Machine) -> None:
    limit(machine.mount("cgroup2"), "200000 100000")
    machine.member_of("0::/../../other")
    assert machine.quota == 2


@pytest.mark.parametrize("text", ["max 100000", "", "200000", "many 100000", "200000 0", "-1 100000"])
def test_what_is_no_quota_is_no_limit(text: str, machine: Machine) -> None:
    limit(machine.mount("cgroup2"), text)
    machine.member_of("0::/")
    assert machine.quota is None


def test_minus_one_is_no_limit_in_version_1(machine: Machine) -> None:
    limit_v1(machine.mount("cgroup", "cpu", options="rw,cpu"), -1)
    machine.member_of("1:cpu:/")
    assert machine.quota is None


@pytest.mark.parametrize("name", ["cgroup", "mountinfo"])
def test_files_that_are_not_as_expected_are_no_limit(name: str, machine: Machine) -> None:
    limit(machine.mount("cgroup2"), "100000 100000")
    machine.member_of("0::/")
    (machine.process / name).write_text("not a line - cgroup2\n")
    assert machine.quota is None


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


def memory(group: Path, limit: str, used: int, unused_pages: int, *, version: int = 2) -> None:
    group.mkdir(parents=True, exist_ok=True)
    names = {1: ("limit_in_bytes", "usage_in_bytes", "total_inactive_file"), 2: ("max", "current", "inactive_file")}
    (group / f"memory.{names[version][0]}").write_text(f"{limit}\n")
    (group / f"memory.{names[version][1]}").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 7\n{names[version][2]} {unused_pages}\nactive_file 9\n")


@pytest.mark.parametrize("version", [1, 2])
def test_the_memory_left_is_the_least_of_the_groups_on_the_way_up(version: int, machine: Machine) -> None:
    top = machine.mount("cgroup2") if version == 2 else machine.mount("cgroup", "memory", options="rw,memory")
    machine.member_of("0::/a/b" if version == 2 else "4:memory:/a/b")
    assert memory_left(machine.process) is None
    memory(top / "a" / "b", "max" if version == 2 else str(2**63 - 4096), 100, 0, version=version)
    memory(top / "a", "1000", 700, 200, version=version)
    memory(top, "5000", 4900, 0, version=version)
    assert memory_left(machine.process) == 100
    memory(top, "5000", 1000, 0, version=version)
    assert memory_left(machine.process) == 500
    memory(top / "a", "1000", 1100, 0, version=version)
    assert memory_left(machine.process) == 0
