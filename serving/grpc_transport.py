"""gRPC to a model server."""

import json
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from heft.errors import ServingError
from serving.errors import (
    AccessDenied,
    InvalidRequest,
    ModelNotFound,
    ServerFault,
    ServerUnavailable,
    TimedOut,
)
from serving.transports import Endpoint, Input

__all__ = ["GrpcTransport"]


class GrpcTransport:
    """gRPC over one channel, which reconnects by itself."""

    def __init__(self, endpoint: Endpoint, secure: bool) -> None:
        self._endpoint = endpoint
        options = [
            ("grpc.service_config", _retry_policy(endpoint.retries)),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        if secure:
            files = ("ca_file", "key_file", "certificate_file")
            credentials = grpc.ssl_channel_credentials(*(endpoint.tls.read(f) for f in files))
            self._channel = grpc.secure_channel(endpoint.target, credentials, options)
        else:
            self._channel = grpc.insecure_channel(endpoint.target, options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self, signature: str, columns: Mapping[str, np.ndarray], inputs: Mapping[str, Input]
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature, by name."""
        request = predict_pb2.PredictRequest(model_spec=self._spec(signature))
        for name, array in columns.items():
            # The model's own type: a price of 3 is sent as a float.
            dtype = getattr(types_pb2, inputs[name].dtype) if name in inputs else None
            try:
                tensor = tf.make_tensor_proto(array, dtype=dtype)
            except (TypeError, ValueError) as error:
                raise InvalidRequest(f"column {name} does not fit the model: {error}") from error
            request.inputs[name].CopyFrom(tensor)
        response = self._call(self._predictions.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def inputs(self, signature: str) -> dict[str, Input]:
        """What a signature takes; empty if the server has none of that name."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(""), metadata_field=["signature_def"]
        )
        response = self._call(self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        definition = signatures.signature_def[signature]
        defaults = {name: tf.make_ndarray(proto) for name, proto in definition.defaults.items()}
        return {
            name: Input(types_pb2.DataType.Name(info.dtype), defaults.get(name))
            for name, info in definition.inputs.items()
        }

    def states(self) -> dict[int, str]:
        """State by version."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec(""))
        names = get_model_status_pb2.ModelVersionStatus.State
        response = self._call(self._models.GetModelStatus, request)
        return {entry.version: names.Name(entry.state) for entry in response.model_version_status}

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def _spec(self, signature: str) -> model_pb2.ModelSpec:
        spec = model_pb2.ModelSpec(name=self._endpoint.model, signature_name=signature)
        if self._endpoint.version is not None:
            spec.version.value = self._endpoint.version
        elif self._endpoint.label is not None:
            spec.version_label = self._endpoint.label
        return spec

    def _call(self, method: Any, request: Any) -> Any:
        metadata = [(key.lower(), value) for key, value in self._endpoint.headers.items()]
        try:
            return method(request, timeout=self._endpoint.timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise _grpc_error(error, self._endpoint) from error


def _retry_policy(retries: int) -> str:
    """gRPC's own retries, which jitter; its maximum is five attempts."""
    policy = {
        "maxAttempts": min(5, retries + 1),
        "initialBackoff": "0.05s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    method = {"name": [{}], **({"retryPolicy": policy} if retries else {})}
    return json.dumps({"methodConfig": [method]})


_GRPC_ERRORS: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
}


def _grpc_error(error: grpc.RpcError, endpoint: Endpoint) -> ServingError:
    code = error.code()
    kind = _GRPC_ERRORS.get(code, ServerFault)
    return kind(f"{endpoint.target} model {endpoint.model}: {code.name}: {error.details()}")
