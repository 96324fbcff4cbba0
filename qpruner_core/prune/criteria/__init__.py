"""Criteria of importance, one file each; see :class:`qpruner_core.prune.importance.Criterion`."""

from qpruner_core.prune.criteria.taylor_first import taylor_first
from qpruner_core.prune.importance import Criterion

CRITERIA: dict[str, Criterion] = {
    "taylor_first": taylor_first,
}
