"""Judging a model: metrics, paired bootstrap, weighted against control.

`compare` takes the views (natural, shuffled or reweighted, graded) with the
predictions of the models and returns a `Comparison` with its verdict.
"""

from heft.evaluation.bootstrap import BootstrapSettings, paired_bootstrap
from heft.evaluation.comparison import compare
from heft.evaluation.grouped import gauc, ndcg_at_k
from heft.evaluation.metrics import auc, auc_pr, calibration, ece, err_gain, log_loss
from heft.evaluation.results import Comparison, Verdict
from heft.evaluation.settings import EvaluationSettings, FairnessSettings
from heft.evaluation.views import ViewData

__all__ = [
    "BootstrapSettings", "Comparison", "EvaluationSettings", "FairnessSettings", "Verdict",
    "ViewData", "auc",
    "auc_pr", "calibration", "compare", "ece", "err_gain", "gauc", "log_loss", "ndcg_at_k",
    "paired_bootstrap",
]  # fmt: skip
