"""Criteria of importance, one file each; see :class:`qpruner_core.prune.importance.Criterion`."""

from qpruner_core.prune.criteria.flap import flap
from qpruner_core.prune.criteria.magnitude import magnitude
from qpruner_core.prune.criteria.random import random
from qpruner_core.prune.criteria.taylor_first import taylor_first
from qpruner_core.prune.criteria.taylor_mixed import taylor_mixed
from qpruner_core.prune.criteria.taylor_second import taylor_second
from qpruner_core.prune.criteria.taylor_vector import taylor_vector
from qpruner_core.prune.criteria.wanda import wanda
from qpruner_core.prune.importance import Criterion

CRITERIA: dict[str, Criterion] = {
    "taylor_first": taylor_first,
    "taylor_second": taylor_second,
    "taylor_mixed": taylor_mixed,
    "taylor_vector": taylor_vector,
    "magnitude": magnitude,
    "wanda": wanda,
    "flap": flap,
    "random": random,
}
