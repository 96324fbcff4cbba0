"""``python -m qpruner_core``: the command line of the core alone."""

from qpruner_core.cli import app
from qpruner_core.program import settle_program

settle_program()
app()
