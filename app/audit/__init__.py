"""Audit of changes: entries outlive the jobs, datasets and keys that they are about."""
