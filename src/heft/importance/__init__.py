"""What each training sample is worth.

from heft.importance import ImportanceData, InversePropensity, LabelQuality

quality = LabelQuality(random_state=7).fit(data).score(data)
pairs = InversePropensity().fit(data).pairs(data)
"""

from heft.importance.base import Debiaser, Estimator, ImportanceData
from heft.importance.combine import Weights, attention, combine, effective_sample_size, plain_pairs
from heft.importance.el2n import El2n
from heft.importance.examination import Examination, from_pairs, from_shuffled_pages
from heft.importance.examination_posterior import ExaminationPosterior
from heft.importance.inverse_propensity import InversePropensity
from heft.importance.label_quality import LabelQuality
from heft.importance.proxy import OutOfFoldProxy, ProxyTrace
from heft.importance.registry import create, names, register
from heft.importance.settings import ImportanceSettings

__all__ = [
    "Debiaser",
    "El2n",
    "Estimator",
    "Examination",
    "ExaminationPosterior",
    "ImportanceData",
    "ImportanceSettings",
    "InversePropensity",
    "LabelQuality",
    "OutOfFoldProxy",
    "ProxyTrace",
    "Weights",
    "attention",
    "combine",
    "create",
    "effective_sample_size",
    "from_pairs",
    "from_shuffled_pages",
    "names",
    "plain_pairs",
    "register",
]
