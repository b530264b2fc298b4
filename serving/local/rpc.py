"""The gRPC face: PredictionService and ModelService."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.local import answers
from serving.local.inference import classify, multi_inference, regress
from serving.local.servable import DEFAULT_SIGNATURE, Servable
from serving.local.status import from_exception, invalid_argument
from serving.local.store import Registry

__all__ = ["add_services"]

_MAX_ELEMENTS = 10_000_000  # of one tensor; a shape can claim more than its message carries

Answer = TypeVar("Answer")
Request = TypeVar("Request")
Context = Any  # grpc.aio.ServicerContext, generic in types grpcio does not export


def add_services(server: grpc.aio.Server, registry: Registry, pool: Executor) -> None:
    """Registers both services; requests are computed in `pool`, off the event loop."""
    predictions = _Predictions(registry, pool)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(predictions, server)
    models = _Models(registry, pool)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)


async def _answer(
    pool: Executor,
    context: Context,
    work: Callable[[], Answer],
    count: Callable[[grpc.StatusCode], None] = lambda code: None,
) -> Answer:
    try:
        answer = await asyncio.get_running_loop().run_in_executor(pool, work)
    except Exception as error:
        problem = from_exception(error)
    else:
        count(grpc.StatusCode.OK)
        return answer
    count(problem.code)
    await context.abort(problem.code, problem.message)
    raise AssertionError("abort raises")


class _Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, registry: Registry, pool: Executor) -> None:
        self._registry = registry
        self._pool = pool

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: Context
    ) -> predict_pb2.PredictResponse:
        return await self._counted("Predict", request.model_spec.name, context, _predict, request)

    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: Context
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return await _answer(self._pool, context, lambda: _metadata(self._registry, request))

    async def Classify(
        self, request: classification_pb2.ClassificationRequest, context: Context
    ) -> classification_pb2.ClassificationResponse:
        return await self._counted("Classify", request.model_spec.name, context, _classify, request)

    async def Regress(
        self, request: regression_pb2.RegressionRequest, context: Context
    ) -> regression_pb2.RegressionResponse:
        return await self._counted("Regress", request.model_spec.name, context, _regress, request)

    async def MultiInference(
        self, request: inference_pb2.MultiInferenceRequest, context: Context
    ) -> inference_pb2.MultiInferenceResponse:
        name = request.tasks[0].model_spec.name if request.tasks else ""
        return await self._counted("MultiInference", name, context, _multi_inference, request)

    async def _counted(
        self,
        api: str,
        model: str,
        context: Context,
        work: Callable[[Registry, Request], Answer],
        request: Request,
    ) -> Answer:
        def count(code: grpc.StatusCode) -> None:
            if self._registry.has(model):
                micros = 1e6 * (time.perf_counter() - started)
                self._registry.metrics.request(model, api, "GRPC", code.name, micros)

        started = time.perf_counter()
        return await _answer(self._pool, context, lambda: work(self._registry, request), count)


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, registry: Registry, pool: Executor) -> None:
        self._registry = registry
        self._pool = pool

    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: Context
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return await _answer(
            self._pool, context, lambda: answers.model_status(self._registry, request.model_spec)
        )

    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: Context
    ) -> model_management_pb2.ReloadConfigResponse:
        def work() -> model_management_pb2.ReloadConfigResponse:
            self._registry.reload(list(request.config.model_config_list.config))
            return model_management_pb2.ReloadConfigResponse()

        return await _answer(self._pool, context, work)


def _predict(
    registry: Registry, request: predict_pb2.PredictRequest
) -> predict_pb2.PredictResponse:
    servable = answers.resolve(registry, request.model_spec)
    inputs = {name: _array(name, proto) for name, proto in request.inputs.items()}
    signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    outputs = servable.run(signature_name, inputs, list(request.output_filter))
    response = predict_pb2.PredictResponse()
    _answered(response.model_spec, request.model_spec, servable)
    for name, array in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
    return response


def _classify(
    registry: Registry, request: classification_pb2.ClassificationRequest
) -> classification_pb2.ClassificationResponse:
    servable = answers.resolve(registry, request.model_spec)
    response = classification_pb2.ClassificationResponse()
    response.result.CopyFrom(classify(servable, request.model_spec.signature_name, request.input))
    _answered(response.model_spec, request.model_spec, servable)
    return response


def _regress(
    registry: Registry, request: regression_pb2.RegressionRequest
) -> regression_pb2.RegressionResponse:
    servable = answers.resolve(registry, request.model_spec)
    response = regression_pb2.RegressionResponse()
    response.result.CopyFrom(regress(servable, request.model_spec.signature_name, request.input))
    _answered(response.model_spec, request.model_spec, servable)
    return response


def _multi_inference(
    registry: Registry, request: inference_pb2.MultiInferenceRequest
) -> inference_pb2.MultiInferenceResponse:
    return multi_inference(lambda spec: answers.resolve(registry, spec), request)


def _answered(into: model_pb2.ModelSpec, asked: model_pb2.ModelSpec, servable: Servable) -> None:
    """Says which version and signature answered."""
    into.name = asked.name
    into.version.value = servable.version
    into.signature_name = asked.signature_name or DEFAULT_SIGNATURE


def _metadata(
    registry: Registry, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    if list(request.metadata_field) != ["signature_def"]:
        raise invalid_argument(
            f"Metadata field {list(request.metadata_field)} is not supported: ask for signature_def"
        )
    return answers.metadata(registry, request.model_spec)


def _array(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank:
        raise invalid_argument(f"Input {name}: tensor parsing error: its rank is unknown")
    if min(sizes, default=0) < 0 or math.prod(sizes) > _MAX_ELEMENTS:
        raise invalid_argument(f"Input {name}: tensor shape {sizes} is negative or too large")
    try:
        array = tf.make_ndarray(proto)
    except (TypeError, ValueError, OverflowError, KeyError) as error:  # KeyError: no such type
        raise invalid_argument(f"Input {name}: tensor parsing error: {error}") from None
    return np.asarray(array)
