"""Places of an attempt's files in the store.

Every attempt has its own place, named by its lease's token, so that an attempt that has lost the job never touches the
files of another. The rows of the database tell which files count.
"""

from __future__ import annotations

from app.jobs.lease import Lease


def attempt_prefix(lease: Lease) -> str:
    """Prefix of every key of an attempt; ends with a slash, like all prefixes here."""
    return f"jobs/{lease.job_id}/{lease.token}/"


def stage_prefix(lease: Lease, stage: str) -> str:
    """Place of the files of a finished stage of this attempt."""
    return f"{attempt_prefix(lease)}stages/{stage}/"


def fits_prefix(lease: Lease) -> str:
    """Where the fitted modules lie that trials of the attempt's search are made of, for workers that help."""
    return f"{attempt_prefix(lease)}fits/"


def artifact_key(lease: Lease, name: str) -> str:
    """Place of an artifact."""
    return f"{attempt_prefix(lease)}artifacts/{name}"
