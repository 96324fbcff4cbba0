"""Kills every part of the service while jobs run, and counts what went wrong: ``python -m bench.chaos``."""
