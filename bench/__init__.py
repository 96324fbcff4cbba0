"""Benchmarks that anyone can run with one command; their results are under docs/benchmarks."""

from qpruner_core.quiet import quieten_libraries

quieten_libraries()  # before the modules of benchmarks import those that would speak already then
