"""``python -m qpruner_core``: the command line of the core alone."""

from qpruner_core.cli import app
from qpruner_core.threads import settle_threads

settle_threads()
app()
