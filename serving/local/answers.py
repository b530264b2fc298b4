"""The answers both faces give: predict, metadata and status."""

from collections.abc import Callable

from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from serving.local.inference import classify, regress
from serving.local.json_examples import decode_examples, encode_classes, encode_regressions
from serving.local.json_tensor import decode_inputs, encode_outputs, parse_body
from serving.local.servable import DEFAULT_SIGNATURE, Servable
from serving.local.status import StatusError, invalid_argument
from serving.local.store import ModelStore, Registry

__all__ = [
    "ANSWERS", "metadata", "metadata_json", "model_status", "resolve", "spec", "status_json",
]  # fmt: skip

_STATE = get_model_status_pb2.ModelVersionStatus.State


def spec(name: str, version: int | None = None, label: str | None = None) -> model_pb2.ModelSpec:
    """A model specification as the REST path spells it."""
    result = model_pb2.ModelSpec(name=name)
    if version is not None:
        result.version.value = version
    if label:
        result.version_label = label
    return result


def _store(registry: Registry, model: model_pb2.ModelSpec) -> tuple[ModelStore, int | None, str]:
    version = model.version.value if model.HasField("version") else None
    return registry.model(model.name), version, model.version_label


def resolve(registry: Registry, model: model_pb2.ModelSpec) -> Servable:
    """The servable a specification names.

    Raises:
        StatusError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
    """
    store, version, label = _store(registry, model)
    return store.resolve(version, label)


def _predict(registry: Registry, model: model_pb2.ModelSpec, body: bytes) -> bytes:
    """Answers in the format that the request came in."""
    servable = resolve(registry, model)
    request = parse_body(body)
    name = request.signature_name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
    inputs = decode_inputs(request, servable.signature(name).inputs)
    return encode_outputs(servable.run(name, inputs), request.rows)


def _classify(registry: Registry, model: model_pb2.ModelSpec, body: bytes) -> bytes:
    servable = resolve(registry, model)
    return encode_classes(classify(servable, *decode_examples(body)))


def _regress(registry: Registry, model: model_pb2.ModelSpec, body: bytes) -> bytes:
    servable = resolve(registry, model)
    return encode_regressions(regress(servable, *decode_examples(body)))


# What a POST asks for → the body of the answer to a body.
ANSWERS: dict[str, Callable[[Registry, model_pb2.ModelSpec, bytes], bytes]] = {
    "predict": _predict,
    "classify": _classify,
    "regress": _regress,
}


def model_status(
    registry: Registry, model: model_pb2.ModelSpec
) -> get_model_status_pb2.GetModelStatusResponse:
    """The state of each version, newest first."""
    try:
        store, version, label = _store(registry, model)
    except StatusError as error:
        message = f"Could not find any versions of model {model.name}"
        raise StatusError(error.code, message) from None
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state in store.states(version, label).items():
        entry = response.model_version_status.add(version=number, state=_STATE.Value(state.state))
        entry.status.error_code = state.code.value[0]
        entry.status.error_message = state.message
    return response


def metadata(
    registry: Registry, model: model_pb2.ModelSpec
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of one version."""
    servable = resolve(registry, model)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = model.name
    response.model_spec.version.value = servable.version
    response.metadata["signature_def"].Pack(_signatures(servable))
    return response


def status_json(registry: Registry, model: model_pb2.ModelSpec) -> bytes:
    """`model_status` as JSON."""
    return _json(model_status(registry, model))


def metadata_json(registry: Registry, model: model_pb2.ModelSpec) -> bytes:
    """`metadata` as JSON; the signatures are written out where the proto packs them."""
    servable = resolve(registry, model)
    answered = spec(model.name, servable.version)
    return (
        b'{"model_spec": ' + _json(answered)
        + b', "metadata": {"signature_def": ' + _json(_signatures(servable)) + b"}}"
    )  # fmt: skip


def _signatures(servable: Servable) -> get_model_metadata_pb2.SignatureDefMap:
    result = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.signatures.items():
        result.signature_def[name].CopyFrom(definition)
    return result


def _json(message: Message) -> bytes:
    text: str = json_format.MessageToJson(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )
    return text.encode()
