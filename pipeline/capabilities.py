"""What runs where: on one machine, on Kubeflow Pipelines, on Vertex AI."""

from typing import Literal, NamedTuple

from rich import box
from rich.markup import escape
from rich.table import Table

__all__ = ["CAPABILITIES", "Capability", "Target", "capability_table"]

Target = Literal["kubeflow", "vertex"]

YES, NO = "yes", "no"
_SHARED = "kept in the shared folder"


class Capability(NamedTuple):
    """What there is of one thing.

    Attributes:
        what: a node, or what a node does.
        local: on one machine.
        kubeflow: on Kubeflow Pipelines, 2.x.
        vertex: on Vertex AI Pipelines.
        why: where one of them differs.
    """

    what: str
    local: str
    kubeflow: str
    vertex: str
    why: str = ""


CAPABILITIES = (
    Capability(
        "simulate", YES, "in LogExampleGen's pod", "in LogExampleGen's pod",
        "a run on one machine simulates before its nodes",
    ),
    Capability("LogExampleGen, StatisticsGen, Transform", YES, YES, YES),
    Capability(
        "SchemaGen, a schema from git", YES, "its text is in the spec", "its text is in the spec",
        "a pod does not see the file",
    ),
    Capability(
        "AnomalyGate, against earlier spans", "resolver", _SHARED, _SHARED,
        "Kubeflow's backend has no resolvers (`resolver not implemented yet`), and of TFX's "
        "compiler two strategies alone, for TFX's own types",
    ),
    Capability("TextEmbedder, earlier vectors", "resolver", _SHARED, _SHARED, "as above"),
    Capability("PairReader, earlier readings", "resolver", _SHARED, _SHARED, "as above"),
    Capability("FineTuner, FeatureRanker, ImportanceEstimator", YES, YES, YES),
    Capability("WeightedTrainer", YES, YES, YES),
    Capability(
        "WeightedTrainer, from the last blessed model", "resolver", _SHARED, _SHARED, "as above"
    ),
    Capability(
        "WeightedTrainer on several machines", "one process a worker, TF_CONFIG by hand",
        "`kubeflow.workers` pods", NO,
        "tasks of Vertex AI Pipelines do not reach each other; one machine with several "
        "accelerators does",
    ),
    Capability(
        "WeightedTrainer, a killed one goes on", YES, _SHARED, _SHARED,
        "a pod's own disk is gone with it; several workers begin anew, and FineTuner",
    ),
    Capability("SliceTagger, Evaluator, WeightingJudge", YES, YES, YES),
    Capability(
        "Evaluator, against the last blessed model", "resolver", _SHARED, _SHARED, "as above"
    ),
    Capability("ServingValidator", YES, YES, YES),
    Capability(
        "InfraValidator", "docker, kubernetes", "ServingValidator", "ServingValidator",
        "TFX does not compile it for pods",
    ),
    Capability("Pusher, ReportGen", YES, YES, YES, "models are pushed to the shared folder"),
    Capability("heft tune, heft finetune, heft stream, heft score", YES, NO, NO,
               "commands of their own; what they make is named in the config"),
    Capability("cache", "by data", "by settings and inputs", "by settings and inputs",
               "LogExampleGen reads files that the cache does not look at: see `cache_logs`"),
    Capability("GPUs, TPUs", YES, "`kubeflow.pods`", "`kubeflow.pods`"),
    Capability("secrets as variables", YES, "by name", NO,
               "Vertex AI Pipelines give a container no secrets; there its service account "
               "asks Secret Manager"),
    Capability("Beam engines", YES, "in the pod, or where artifacts are mounted alike",
               "in the pod", "a worker elsewhere does not see the pod's paths"),
)  # fmt: skip


def capability_table(target: Target) -> Table:
    """What there is on one of them, and what takes the place of what there is not."""
    table = Table("", target, "why", box=box.SIMPLE_HEAD)
    for row in CAPABILITIES:
        there = row.kubeflow if target == "kubeflow" else row.vertex
        table.add_row(escape(row.what), escape(there), escape(row.why if there != YES else ""))
    return table
