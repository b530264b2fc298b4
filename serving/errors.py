"""What can go wrong between a caller and a model server."""

from heft.errors import ServingError

__all__ = [
    "AccessDenied",
    "InvalidRequest",
    "ModelNotFound",
    "ServerFault",
    "ServerUnavailable",
    "TimedOut",
]


class AccessDenied(ServingError):
    """The server, or what stands before it, wants another token or certificate."""


class InvalidRequest(ServingError):
    """The request does not fit the model: a column is missing, or of another type."""

    exit_code = 2


class ModelNotFound(ServingError):
    """The server does not serve this model, version or label."""


class ServerUnavailable(ServingError):
    """No connection, or the server is overloaded; retries did not help."""


class TimedOut(ServingError):
    """No answer within the time-out."""


class ServerFault(ServingError):
    """The server failed on a request that may have been right."""
