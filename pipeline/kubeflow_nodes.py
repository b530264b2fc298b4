"""The street as pods run it: the same nodes, and what each gets in place of one machine's help."""

import re
from dataclasses import dataclass

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import Channel

from components.artifacts import GATE_FORMAT
from heft.gate.findings import FORMAT
from heft.kubeflow_settings import KubeflowSettings
from pipeline.config import PipelineConfig
from pipeline.pipeline import street_nodes
from pipeline.places import Places
from pipeline.pods import Pod, Recalled, Remembered, Workers
from pipeline.runtime_parameters import JUDGED_BY, runtime_parameters

__all__ = ["PodNode", "on_pods", "pod_nodes"]

# What a node keeps for later runs, under the name by which they ask for it.
_KEPT = {
    "TextEmbedder": Remembered(key="embeddings", name="TextEmbeddings"),
    "PairReader": Remembered(key="readings", name="PairReadings"),
    "AnomalyGate": Remembered(key="anomalies", name="ExampleAnomalies"),
    "WeightingJudge": Remembered(key="model", name="Model", if_blessed="blessing"),
}
_SPANS_MORE = 10  # kept than looked at: spans come again, and out of order


@dataclass(frozen=True)
class PodNode:
    """A node and what its pod gets.

    Attributes:
        node: with an id that Kubernetes takes.
        name: as on one machine.
        pods: one; several where workers train together, the chief first.
    """

    node: BaseNode
    name: str
    pods: tuple[Pod, ...]


def on_pods(config: PipelineConfig) -> PipelineConfig:
    """The config with what pods cannot do replaced by what they can."""
    assert config.kubeflow is not None
    serving = config.serving.model_copy(update={"validator": "stand_in"})
    model = config.model
    if config.kubeflow.workers > 1:
        model = model.model_copy(update={"strategy": "multi_worker"})
    return config.model_copy(update={"serving": serving, "model": model})


def pod_nodes(config: PipelineConfig, schema: str | None, run_facts: str) -> list[PodNode]:
    """Every node that becomes a pod, in order.

    Args:
        config: as of `on_pods`.
        schema: the reviewed one; None to have one inferred.
        run_facts: for the report, as JSON.
    """
    assert config.kubeflow is not None
    settings, memory = config.kubeflow, f"{config.kubeflow.shared}/memory/{config.name}"
    places = Places(
        root=settings.pipeline_root,
        metadata="",
        serving=f"{settings.shared}/serving/{config.name}",
        schema_file=None if schema is None else "schema.pbtxt",
    )
    nodes = street_nodes(config, places, "", run_facts)
    resolvers = {node.id for node in nodes if isinstance(node, Resolver)}
    nodes = [node for node in nodes if node.id not in resolvers]
    recalled = {node.id: _without_resolvers(node, resolvers, config) for node in nodes}
    wanted = {one.name for inputs in recalled.values() for one in inputs.values()}
    found = []
    for node in nodes:
        pod = _pod(node, config, schema).model_copy(
            update={
                "memory": memory,
                "resume": f"{memory}/resume" if node.id == "WeightedTrainer" else "",
                "recall": recalled[node.id],
                "remember": tuple(_remembered(node.id, wanted, config)),
            }
        )
        _take_parameters(node, pod, config)
        name, pods = node.id, _workers(node.id, pod, settings, memory)
        found.append(PodNode(node.with_id(_kebab(name)), name, pods))
    return found


def _without_resolvers(
    node: BaseNode, resolvers: set[str], config: PipelineConfig
) -> dict[str, Recalled]:
    """Takes the inputs away that resolvers would give, and says what comes in their place."""
    found = {}
    for key, channel in list(node.inputs.items()):
        if channel.producer_component_id in resolvers:
            del node.inputs[key]
            found[key] = _recalled(channel, config)
    return found


def _recalled(channel: Channel, config: PipelineConfig) -> Recalled:
    name = channel.type.__name__
    if name != "ExampleAnomalies":
        return Recalled(name=name)
    gate = config.gate
    return Recalled(
        name=name, before_span_of="examples", spans=gate.spans, since=gate.since or 0,
        alike={GATE_FORMAT: FORMAT},
    )  # fmt: skip


def _remembered(name: str, wanted: set[str], config: PipelineConfig) -> list[Remembered]:
    kept = _KEPT.get(name)
    if kept is None or kept.name not in wanted:
        return []
    if kept.name == "ExampleAnomalies":
        kept = kept.model_copy(update={"most": config.gate.spans + _SPANS_MORE})
    return [kept]


def _pod(node: BaseNode, config: PipelineConfig, schema: str | None) -> Pod:
    """What this very node needs."""
    if node.id == "LogExampleGen":
        if config.simulate is None:
            return Pod(runtime=("span",))
        return Pod(runtime=("span", "sessions"), simulate=config.simulate.model_dump(mode="json"))
    if node.id == "Evaluator":
        return Pod(
            runtime=JUDGED_BY,
            thresholds=config.thresholds.model_dump(mode="json"),
            slices=config.all_slices,
            evaluation=config.evaluation.model_dump(mode="json"),
        )
    if node.id == "ReportGen":
        return Pod(span_of="examples")
    if node.id == "ImportSchemaGen" and schema is not None:
        return Pod(texts={"schema_file": schema})
    return Pod()


def _take_parameters(node: BaseNode, pod: Pod, config: PipelineConfig) -> None:
    """TFX writes a property that is a runtime parameter into the spec as one."""
    values = runtime_parameters(config)
    for name in pod.runtime:
        value = values[name]
        node.exec_properties[name] = RuntimeParameter(name, type(value), value)


def _workers(name: str, pod: Pod, settings: KubeflowSettings, memory: str) -> tuple[Pod, ...]:
    if name != "WeightedTrainer" or settings.workers == 1:
        return (pod,)
    places = [
        Workers(
            folder=f"{memory}/rendezvous", index=index, count=settings.workers,
            patience=settings.rendezvous_seconds,
        )
        for index in range(settings.workers)
    ]  # fmt: skip
    return tuple(pod.model_copy(update={"workers": place}) for place in places)


def _kebab(name: str) -> str:
    """`LogExampleGen` is `log-example-gen`: names of tasks become names of pods."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").lower()
