"""Adapter initialisations, one file each; see :class:`Initialisation`."""

from qpruner_core.fitting.initialisations.base import Initialisation
from qpruner_core.fitting.initialisations.loftq import loftq
from qpruner_core.fitting.initialisations.qera import qera
from qpruner_core.fitting.initialisations.zero import zero

__all__ = ["INITIALISATIONS", "Initialisation"]

INITIALISATIONS: dict[str, Initialisation] = {"zero": zero, "loftq": loftq, "qera": qera}
