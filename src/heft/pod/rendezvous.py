"""Workers that train together find each other through a folder that all of them see.

Kubeflow runs one pod for a node and gives pods no names that others could know. Each worker
writes its address here and waits for those of all others; TF_CONFIG follows from them.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from heft.errors import TrainingError

__all__ = ["free_address", "meet", "tf_config"]

# A worker touches its file once a second while it waits. One that was killed does not, so that
# a file that is old was left by it. All ages are by the clock of the file system.
_BEAT, _FRESH = 1.0, 15.0


def meet(
    folder: str | Path,
    index: int,
    count: int,
    address: str,
    patience: float,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """The addresses of all workers, in their order, once all are there.

    Args:
        folder: of this training, which all workers see.
        index: of this one, from 0.
        count: of all.
        address: host and port of this one.
        patience: seconds to wait.
        sleep: waits some seconds.

    Raises:
        TrainingError: some did not come.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    own = place / f"{index}.json"
    draft = place / f".{index}.draft"
    draft.write_text(json.dumps(address))
    draft.replace(own)
    began = time.monotonic()
    while True:
        os.utime(own)
        now = own.stat().st_mtime
        fresh = {i for i in range(count) if now - _touched(place / f"{i}.json") < _FRESH}
        if len(fresh) == count:
            break
        if time.monotonic() - began > patience:
            missing = sorted(set(range(count)) - fresh)
            raise TrainingError(
                f"worker {index} waited {patience:.0f} s for workers {missing} of {count}: "
                "expected all pods to run at the same time; is there room for them in the cluster?"
            )
        sleep(_BEAT)
    _stay_in_sight(own)
    return [json.loads((place / f"{i}.json").read_text()) for i in range(count)]


def tf_config(addresses: list[str], index: int) -> str:
    """What `tf.distribute.MultiWorkerMirroredStrategy` reads from TF_CONFIG."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def free_address() -> str:
    """A port of this machine that nobody listens at, with the address that others know."""
    host = socket.gethostbyname(socket.gethostname())
    with socket.create_server((host, 0)) as server:
        return f"{host}:{server.getsockname()[1]}"


def _touched(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return float("-inf")


def _stay_in_sight(own: Path) -> None:
    """Others may look a moment later: the file stays fresh for them, and no longer."""

    def beat() -> None:
        for _ in range(int(_FRESH)):
            time.sleep(_BEAT)
            try:
                os.utime(own)
            except OSError:
                return

    threading.Thread(target=beat, daemon=True).start()
