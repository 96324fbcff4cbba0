"""Benchmarks that anyone can run with one command; their results are under docs/benchmarks."""
