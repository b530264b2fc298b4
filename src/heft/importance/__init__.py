"""What each training sample is worth.

from heft.importance import ImportanceData, PairPosterior, LabelQuality

quality = LabelQuality(random_state=7).fit(data).score(data)
pairs = PairPosterior().fit(data).pairs(data)
"""

from heft.importance.affine import AffineCorrection
from heft.importance.attention_score import AttentionScore
from heft.importance.audit import ExactBanzhaf, ExactShapley
from heft.importance.aum import Aum
from heft.importance.base import Debiaser, Estimator, ImportanceData, Observer, Reweigher
from heft.importance.click_model import ClickModel, click_model_from_pairs
from heft.importance.combine import Weights, attention, combine, effective_sample_size, plain_pairs
from heft.importance.data_oob import DataOob
from heft.importance.delay_distribution import DelayDistribution, fit_delays
from heft.importance.delayed_feedback import DelayedFeedback
from heft.importance.domain_ratio import DomainRatio
from heft.importance.el2n import El2n
from heft.importance.ensemble import Ensemble
from heft.importance.examination import Examination, from_pairs, from_shuffled_pages
from heft.importance.examination_posterior import ExaminationPosterior
from heft.importance.fairness_reweighing import FairnessReweighing
from heft.importance.forgetting import Forgetting
from heft.importance.fraud import Fraud
from heft.importance.grand import Grand
from heft.importance.influence import Influence
from heft.importance.integrated_gradients import IntegratedGradients
from heft.importance.inverse_propensity import InversePropensity
from heft.importance.knn_shapley import KnnShapley
from heft.importance.label_quality import LabelQuality
from heft.importance.learned import Learned
from heft.importance.lime_explanation import LimeExplanation
from heft.importance.negative_sampling import NegativeSampling
from heft.importance.pair_posterior import PairPosterior
from heft.importance.proxy import OutOfFoldProxy, ProxyTrace
from heft.importance.random_scores import RandomScores
from heft.importance.registry import create, names, register
from heft.importance.relevance_agreement import RelevanceAgreement
from heft.importance.repetition import Repetition
from heft.importance.rho_loss import RhoLoss
from heft.importance.self_influence import SelfInfluence
from heft.importance.settings import ImportanceSettings
from heft.importance.shap_mass import ShapMass
from heft.importance.tracin import TracIn

__all__ = [
    "AffineCorrection",
    "AttentionScore",
    "Aum",
    "ClickModel",
    "DataOob",
    "Debiaser",
    "DelayDistribution",
    "DelayedFeedback",
    "DomainRatio",
    "El2n",
    "Ensemble",
    "Estimator",
    "ExactBanzhaf",
    "ExactShapley",
    "Examination",
    "ExaminationPosterior",
    "FairnessReweighing",
    "Forgetting",
    "Fraud",
    "Grand",
    "ImportanceData",
    "ImportanceSettings",
    "Influence",
    "IntegratedGradients",
    "InversePropensity",
    "KnnShapley",
    "LabelQuality",
    "Learned",
    "LimeExplanation",
    "NegativeSampling",
    "Observer",
    "OutOfFoldProxy",
    "PairPosterior",
    "ProxyTrace",
    "RandomScores",
    "RelevanceAgreement",
    "Repetition",
    "Reweigher",
    "RhoLoss",
    "SelfInfluence",
    "ShapMass",
    "TracIn",
    "Weights",
    "attention",
    "click_model_from_pairs",
    "combine",
    "create",
    "effective_sample_size",
    "fit_delays",
    "from_pairs",
    "from_shuffled_pages",
    "names",
    "plain_pairs",
    "register",
]
