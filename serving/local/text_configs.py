"""TensorFlow Serving's batching and monitoring configurations.

Their definitions are not in the package tensorflow-serving-api, which has those of
models.config alone; the fields are declared here.
"""

from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from serving.local.batching import BatchingParameters

__all__ = ["read_batching", "read_metrics_path"]

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "heft.serving"
_DEFAULT_PATH = "/monitoring/prometheus/metrics"
# Message → field → type, and whether it repeats; numbers only serve to tell fields apart.
_MESSAGES: dict[str, dict[str, tuple[int | str, bool]]] = {
    "BatchingParameters": {
        **dict.fromkeys(
            ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"),
            (".google.protobuf.Int64Value", False),
        ),
        "thread_pool_name": (".google.protobuf.StringValue", False),
        "allowed_batch_sizes": (_FIELD.TYPE_INT64, True),
        "pad_variable_length_inputs": (_FIELD.TYPE_BOOL, False),
    },
    "PrometheusConfig": {
        "enable": (_FIELD.TYPE_BOOL, False),
        "path": (_FIELD.TYPE_STRING, False),
    },
    "MonitoringConfig": {"prometheus_config": (f".{_PACKAGE}.PrometheusConfig", False)},
}


def read_batching(path: Path) -> BatchingParameters:
    """A batching_parameters_file.

    Raises:
        ValueError: the file is none, or its numbers contradict each other.
        OSError: it cannot be read.
    """
    message = _read(path, "BatchingParameters")
    given = {
        name: getattr(message, name).value
        for name, (kind, _) in _MESSAGES["BatchingParameters"].items()
        if kind == ".google.protobuf.Int64Value" and message.HasField(name)
    }
    try:
        return BatchingParameters(allowed_batch_sizes=tuple(message.allowed_batch_sizes), **given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_metrics_path(path: Path) -> str | None:
    """Where a monitoring_config_file has Prometheus look; None if it is not enabled.

    Raises:
        ValueError: the file is none.
        OSError: it cannot be read.
    """
    config = _read(path, "MonitoringConfig").prometheus_config
    return (config.path or _DEFAULT_PATH) if config.enable else None


def _read(path: Path, name: str) -> Any:
    message = message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))()
    try:
        return text_format.Parse(path.read_text(), message)
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no {name}: {error}") from None


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="heft/serving.proto", package=_PACKAGE, syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )  # fmt: skip
    for message, fields in _MESSAGES.items():
        entry = file.message_type.add(name=message)
        for number, (name, (kind, repeats)) in enumerate(fields.items(), start=1):
            label = _FIELD.LABEL_REPEATED if repeats else _FIELD.LABEL_OPTIONAL
            field = entry.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool.Add(file)
    return pool
