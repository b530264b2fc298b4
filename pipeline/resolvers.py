"""Which earlier artifacts a run is compared with.

TFX's latest-blessed strategy would, when a finished run is repeated, resolve to
that run's own model, and no node behind it could be taken from the cache. These
strategies look at what came before the candidate, so that a repeated run sees
what the first one saw.
"""

import ml_metadata as mlmd
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types.artifact import Artifact

from components.artifacts import GATE_FORMAT

__all__ = ["BlessedBefore", "LatestBefore", "PassedBefore"]

Artifacts = dict[str, list[Artifact]]


class BlessedBefore(ResolverStrategy):
    """The latest blessed `model` that is older than `candidate`; none on a first run."""

    def resolve_artifacts(self, store: mlmd.MetadataStore, input_dict: Artifacts) -> Artifacts:
        """Keys `model`, `model_blessing` and `candidate`, each with one artifact or none."""
        candidate = max(artifact.id for artifact in input_dict["candidate"])
        blessings = {
            blessing.get_int_custom_property(
                constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY
            ): blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        }
        earlier = [m for m in input_dict["model"] if m.id < candidate and m.id in blessings]
        if not earlier:
            return {"model": [], "model_blessing": [], "candidate": input_dict["candidate"]}
        latest = max(earlier, key=lambda model: model.id)
        return {
            "model": [latest],
            "model_blessing": [blessings[latest.id]],
            "candidate": input_dict["candidate"],
        }


class LatestBefore(ResolverStrategy):
    """The latest of `earlier` that is older than `candidate`; none on a first run."""

    def resolve_artifacts(self, store: mlmd.MetadataStore, input_dict: Artifacts) -> Artifacts:
        """Keys `earlier` and `candidate`, each with one artifact or none."""
        candidate = max(artifact.id for artifact in input_dict["candidate"])
        before = [artifact for artifact in input_dict["earlier"] if artifact.id < candidate]
        latest = [max(before, key=lambda artifact: artifact.id)] if before else []
        return {"earlier": latest, "candidate": input_dict["candidate"]}


class PassedBefore(ResolverStrategy):
    """The spans before the candidate's whose runs passed AnomalyGate; none on a first one.

    Only such a span leaves an artifact of the gate, so that one that was rejected is never
    compared with. Of a span that passed several times the latest counts; the candidate's own
    never does.

    Args:
        spans: the last so many.
        since: earlier ones do not count.
        gate_format: version of the gate's files; others are passed over.
    """

    def __init__(self, spans: int, since: int, gate_format: int) -> None:
        self._spans, self._since, self._format = spans, since, gate_format

    def resolve_artifacts(self, store: mlmd.MetadataStore, input_dict: Artifacts) -> Artifacts:
        """Keys `passed`, artifacts of the gate, and `candidate`, examples of the span."""
        candidate = max(input_dict["candidate"], key=lambda artifact: artifact.id)
        latest: dict[int, Artifact] = {}
        for artifact in sorted(input_dict["passed"], key=lambda artifact: artifact.id):
            if artifact.get_int_custom_property(GATE_FORMAT) == self._format:
                latest[artifact.span] = artifact
        before = [span for span in latest if self._since <= span < candidate.span]
        chosen = [latest[span] for span in sorted(before)[-self._spans :]]
        return {"passed": chosen, "candidate": input_dict["candidate"]}
