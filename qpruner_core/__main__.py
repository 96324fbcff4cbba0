"""``python -m qpruner_core``: the command line of the core alone."""

from qpruner_core.cli import app

app()
