"""Estimators of mutual information, one file each; see :class:`qpruner_core.score.information.estimator.Estimator`."""

from qpruner_core.score.config import Information
from qpruner_core.score.information.estimator import Estimator
from qpruner_core.score.information.gaussian import gaussian
from qpruner_core.score.information.kmeans import kmeans
from qpruner_core.score.information.knn import knn

ESTIMATORS: dict[Information, Estimator] = {"kmeans": kmeans, "knn": knn, "gaussian": gaussian}
