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

__all__ = ["BlessedBefore", "LatestBefore"]

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
