"""Canonical status codes, and how TensorFlow Serving's REST face spells them."""

import grpc
import tensorflow as tf

__all__ = ["HTTP_STATUS", "StatusError", "from_exception", "invalid_argument", "not_found"]

_MESSAGE_LIMIT = 2_000  # characters; TensorFlow's messages can carry whole graphs

# What tensorflow/serving answers for each code; see docs/serving.md.
HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class StatusError(Exception):
    """A request that cannot be answered, with the code both faces report."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:_MESSAGE_LIMIT]

    @property
    def http_status(self) -> int:
        """The HTTP status of the code."""
        return HTTP_STATUS[self.code]


def invalid_argument(message: str) -> StatusError:
    """The caller's request is at fault."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    """No such model or version."""
    return StatusError(grpc.StatusCode.NOT_FOUND, message)


def from_exception(error: Exception) -> StatusError:
    """The status of any exception; what nobody foresaw is INTERNAL."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, tf.errors.OpError):
        code = _BY_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN)
        return StatusError(code, error.message)
    return StatusError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
