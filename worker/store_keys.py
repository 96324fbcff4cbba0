"""Where an attempt puts its files. Every attempt has a place of its own, named by its lease's token: what one that has
lost the job still writes or deletes is never another's. The rows of the database say which files count."""

from __future__ import annotations

from app.jobs.lease import Lease


def attempt_prefix(lease: Lease) -> str:
    """What every key of an attempt begins with; a slash at the end, as in all prefixes here."""
    return f"jobs/{lease.job_id}/{lease.token}/"


def stage_prefix(lease: Lease, stage: str) -> str:
    """Where the files of a stage lie that this attempt has finished."""
    return f"{attempt_prefix(lease)}stages/{stage}/"


def fits_prefix(lease: Lease) -> str:
    """Where the fitted modules lie that trials of the attempt's search are made of, for workers that help."""
    return f"{attempt_prefix(lease)}fits/"


def artifact_key(lease: Lease, name: str) -> str:
    """Where an artifact lies."""
    return f"{attempt_prefix(lease)}artifacts/{name}"
