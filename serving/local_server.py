"""A stand-in for TensorFlow Serving on machines without Docker.

    python -m serving.local_server --model-base-path runs/demo/serving/heft --rest-port 8501

It answers TensorFlow Serving's REST and gRPC contract over the same SavedModel
folders, so that what is developed against it runs against the real server.
Production is the tensorflow/serving image; see docs/serving.md.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.local.store import ModelConfig, Registry

__all__ = ["main"]

_NO_MODEL = 2  # exit code
_GRACE_SECONDS = 5.0  # for requests in flight when the server is told to stop
_MEBIBYTE = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT.

    Returns:
        0 after a signal, 2 if the model cannot be loaded or a port cannot be had.
    """
    options = _parse(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if options.until_stdin_closes:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    with _quiet_tensorflow():
        from serving.local.batching import BatchingParameters
        from serving.local.store import Registry
        from serving.local.text_configs import read_batching, read_metrics_path

    try:
        batching = BatchingParameters() if options.enable_batching else None
        if options.batching_parameters_file is not None:
            batching = read_batching(options.batching_parameters_file)
        metrics_path = None
        if options.monitoring_config_file is not None:
            metrics_path = read_metrics_path(options.monitoring_config_file)
        registry = Registry(_config_reader(options), options.poll_seconds, batching)
        logging.disable(logging.WARNING)  # a first load that fails is told once, below
        registry.poll()
    except (OSError, ValueError) as error:
        return _fail(str(error))
    finally:
        logging.disable(logging.NOTSET)
    for store in registry.models():
        if not store.available():
            reason = store.failure() or "no <version>/saved_model.pb there"
            first = reason.splitlines()[0] if reason else "unknown"
            where = store.config.base_path
            return _fail(f"no version of model {store.name} can be served from {where}: {first}")
    try:
        asyncio.run(_serve(registry, options, metrics_path))
    except (OSError, RuntimeError) as error:
        return _fail(str(error))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="serving.local_server", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model-base-path", type=Path, help="folder of <version>/ folders")
    parser.add_argument("--model-name", default="heft")
    parser.add_argument("--model-config-file", type=Path, help="as tensorflow/serving's")
    parser.add_argument("--rest-port", type=int, default=8501, help="0 takes a free one")
    parser.add_argument("--grpc-port", type=int, default=8500, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="loopback unless told otherwise")
    parser.add_argument("--port-file", type=Path, help="JSON of the ports, written when ready")
    parser.add_argument(
        "--poll-seconds", type=float, default=1.0, help="between looks for versions"
    )
    parser.add_argument("--enable-batching", action="store_true", help="join requests")
    parser.add_argument("--batching-parameters-file", type=Path, help="as tensorflow/serving's")
    parser.add_argument("--monitoring-config-file", type=Path, help="as tensorflow/serving's")
    parser.add_argument("--max-request-bytes", type=int, default=64 * _MEBIBYTE)
    parser.add_argument("--threads", type=int, default=min(16, 2 * (os.cpu_count() or 1)))
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end when the starting process does"
    )
    options = parser.parse_args(arguments)
    if (options.model_base_path is None) == (options.model_config_file is None):
        parser.error("give one of --model-base-path and --model-config-file")
    if options.batching_parameters_file is not None and not options.enable_batching:
        parser.error("--batching-parameters-file needs --enable-batching")
    return options


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """For the import of TensorFlow, whose C++ logs to stderr before it can be told not to."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _end_with_parent() -> None:
    stdin = sys.stdin.fileno()
    while os.read(stdin, 4096):  # not sys.stdin.read, whose lock would outlive the interpreter
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _config_reader(options: argparse.Namespace) -> "Callable[[], list[ModelConfig]]":
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    def read() -> "list[ModelConfig]":
        path = options.model_config_file
        if path is None:
            base = str(options.model_base_path.resolve())
            config = model_server_config_pb2.ModelConfig(
                name=options.model_name, base_path=base, model_platform="tensorflow"
            )
            return [config]
        server = model_server_config_pb2.ModelServerConfig()
        try:
            text_format.Parse(path.read_text(), server)
        except text_format.ParseError as error:
            raise ValueError(f"{path} is not a ModelServerConfig: {error}") from None
        if not server.model_config_list.config:
            raise ValueError(
                f"{path} names no model: expected model_config_list {{ config {{…}} }}"
            )
        return list(server.model_config_list.config)

    return read


async def _serve(
    registry: "Registry", options: argparse.Namespace, metrics_path: str | None
) -> None:
    import grpc
    from aiohttp import web

    from serving.local.rest import make_app
    from serving.local.rpc import add_services

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with ThreadPoolExecutor(options.threads, thread_name_prefix="predict") as pool:
        app = make_app(registry, pool, options.max_request_bytes, metrics_path)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, options.host, options.rest_port).start()
        rest_port = runner.addresses[0][1]
        limits = [
            ("grpc.max_receive_message_length", options.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.aio.server(options=limits)
        add_services(server, registry, pool)
        grpc_port = server.add_insecure_port(f"{options.host}:{options.grpc_port}")
        await server.start()
        registry.start()
        _announce(registry, options, rest_port, grpc_port)
        await stopped.wait()
        await server.stop(_GRACE_SECONDS)
        await runner.cleanup()
        registry.close()


def _announce(
    registry: "Registry", options: argparse.Namespace, rest_port: int, grpc_port: int
) -> None:
    versions = {store.name: store.available() for store in registry.models()}
    if options.port_file is not None:
        ports = {"rest": rest_port, "grpc": grpc_port, "pid": os.getpid()}
        partial = options.port_file.with_suffix(".partial")
        partial.write_text(json.dumps(ports))
        partial.replace(options.port_file)
    host = options.host
    print(
        f"local stand-in for TensorFlow Serving ready: REST http://{host}:{rest_port}, "
        f"gRPC {host}:{grpc_port}, versions {versions}",
        flush=True,
    )


def _fail(message: str) -> int:
    print(f"serving.local_server: {message}", file=sys.stderr, flush=True)
    return _NO_MODEL


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
