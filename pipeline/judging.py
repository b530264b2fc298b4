"""The nodes that say whether a model is good enough."""

from typing import NamedTuple

from tfx.dsl.components.base.base_node import BaseNode
from tfx.types import Channel

from components.log_evaluator.component import LogEvaluator
from components.slice_tagger.component import SliceTagger
from components.weighting_judge.component import WeightingJudge
from heft import features as f
from pipeline.config import PipelineConfig
from pipeline.digest import source_digest
from pipeline.evaluation import eval_config

__all__ = ["JudgeNodes", "judge_nodes"]


class JudgeNodes(NamedTuple):
    """In the order in which data walks them."""

    tagger: BaseNode
    evaluator: BaseNode
    judge: BaseNode


def judge_nodes(
    config: PipelineConfig,
    examples: Channel,
    importance: Channel,
    trainer: BaseNode,
    last: Channel,
) -> JudgeNodes:
    """SliceTagger, the Evaluator, and WeightingJudge, whose blessing counts.

    Args:
        config: every setting.
        examples: of all splits.
        importance: how clicks depend on position.
        trainer: of the model and its control.
        last: the last blessed model.
    """
    model = trainer.outputs["model"]
    tagger = SliceTagger(
        examples, config.slice_bands, source_digest("components.slice_tagger.executor")
    )
    tagged = tagger.outputs["tagged_examples"]
    evaluator = LogEvaluator(
        examples=tagged,
        model=model,
        baseline_model=last,
        eval_config=eval_config(config.thresholds, config.all_slices, config.evaluation),
        example_splits=[f.NATURAL],
    ).with_id("Evaluator")
    judge = WeightingJudge(
        examples,
        model,
        trainer.outputs["control_model"],
        evaluator.outputs["blessing"],
        config.evaluation,
        config.all_slices,
        source_digest("components.weighting_judge.executor"),
        tagged_examples=tagged,
        importance=importance,
        last_model=last,
    )
    return JudgeNodes(tagger, evaluator, judge)
