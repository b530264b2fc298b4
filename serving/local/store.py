"""Which versions of a model are served: polling, loading, swapping, labels."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from serving.local.batching import BatchingParameters
from serving.local.metrics import Metrics
from serving.local.servable import Servable, is_complete
from serving.local.status import StatusError, from_exception, invalid_argument, not_found

__all__ = ["ModelStore", "Registry", "VersionState"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionState:
    """What the status request says of one version."""

    state: str  # LOADING, AVAILABLE, UNLOADING or END
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""


@dataclass(frozen=True)
class _Serving:
    """What is served at one moment, never changed, so that readers need no lock."""

    versions: Mapping[int, Servable]
    labels: Mapping[str, int]


class ModelStore:
    """The versions of one model.

    `poll` is called by one thread; the other methods by any. A request holds
    the servable it was given, so a version that is dropped lives until its
    last request is answered: that is what makes a swap free of failures.

    Args:
        config: what is wanted; `poll` makes it so.
        batching: how requests are joined; None runs each alone.
        metrics: that loads and runs are counted in.
    """

    def __init__(
        self, config: ModelConfig, batching: BatchingParameters | None, metrics: Metrics
    ) -> None:
        self.config = config
        self._batching = batching
        self._metrics = metrics
        self._now = _Serving({}, {})
        self._states: Mapping[int, VersionState] = {}
        self._broken: dict[int, tuple[object, ...]] = {}

    @property
    def name(self) -> str:
        """The name requests use."""
        return str(self.config.name)

    def poll(self) -> None:
        """Loads what the policy wants and is not loaded, then drops what it does not want."""
        found = self._found()
        wanted = self._wanted(found)
        for version in sorted(wanted - set(self._now.versions)):
            self._load(version)
        # A server that was started anew serves the newest version that can be.
        latest = self.config.model_version_policy.WhichOneof("policy_choice") in (None, "latest")
        for version in sorted(found - wanted, reverse=True) if latest else ():
            if not self._now.versions:
                self._load(version)
        self._move_labels()
        # A version that cannot be loaded never takes the place of one that can.
        if wanted and not wanted & set(self._now.versions):
            return
        for version in sorted(set(self._now.versions) - wanted - set(self._now.labels.values())):
            kept = {k: v for k, v in self._now.versions.items() if k != version}
            self._now = _Serving(kept, self._now.labels)
            self._note(version, VersionState("END"))
            gc.collect()

    def resolve(self, version: int | None = None, label: str | None = None) -> Servable:
        """The servable a request asks for; the newest if it names none.

        Raises:
            StatusError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        now = self._now
        if label:
            if label not in now.labels:
                raise invalid_argument(f"Unrecognized servable version label: {label}")
            version = now.labels[label]
        if version is None and now.versions:
            version = max(now.versions)
        if version not in now.versions:
            asked = (
                f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
            )
            raise not_found(f"Servable not found for request: {asked}")
        return now.versions[version]

    def states(
        self, version: int | None = None, label: str | None = None
    ) -> dict[int, VersionState]:
        """State by version, newest first.

        Raises:
            StatusError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        if label:
            version = self.resolve(label=label).version
        states = self._states
        if version is None:
            if not states:
                raise not_found(f"Could not find any versions of model {self.name}")
            return dict(sorted(states.items(), reverse=True))
        if version not in states:
            raise not_found(f"Could not find version {version} of model {self.name}")
        return {version: states[version]}

    def available(self) -> list[int]:
        """The versions served now, in ascending order."""
        return sorted(self._now.versions)

    def failure(self) -> str | None:
        """Why the newest version that failed did, if one failed."""
        failed = [s for _, s in sorted(self._states.items()) if s.code is not grpc.StatusCode.OK]
        return failed[-1].message if failed else None

    def _found(self) -> set[int]:
        base = Path(self.config.base_path)
        if not base.is_dir():
            return set()
        return {int(p.name) for p in base.iterdir() if p.name.isdecimal() and is_complete(p)}

    def _wanted(self, found: set[int]) -> set[int]:
        policy = self.config.model_version_policy
        match policy.WhichOneof("policy_choice"):
            case "all":
                return found
            case "specific":
                return found & set(policy.specific.versions)
            case _:
                return set(sorted(found)[-max(1, policy.latest.num_versions) :])

    def _load(self, version: int) -> None:
        path = Path(self.config.base_path) / str(version)
        fingerprint = _fingerprint(path)
        if self._broken.get(version) == fingerprint:
            return  # tried, and nothing in the folder has changed since
        self._note(version, VersionState("LOADING"))
        started = time.perf_counter()
        try:
            servable = Servable(path, version, self.name, self._batching, self._metrics)
        except Exception as error:
            self._count_load(path, "fail", started)
            status = from_exception(error)
            self._broken[version] = fingerprint
            self._note(version, VersionState("END", status.code, status.message))
            reason = (status.message.splitlines() or [""])[0]
            logger.warning("version %d of %s cannot be loaded: %s", version, self.name, reason)
            return
        self._count_load(path, "success", started)
        self._broken.pop(version, None)
        self._now = _Serving({**self._now.versions, version: servable}, self._now.labels)
        self._note(version, VersionState("AVAILABLE"))

    def _count_load(self, path: Path, status: str, started: float) -> None:
        where, name = {"model_path": str(path)}, ":tensorflow:cc:saved_model:load_"
        self._metrics.count(f"{name}attempt_count", where | {"status": status})
        if status == "success":
            self._metrics.count(f"{name}latency", where, 1e6 * (time.perf_counter() - started))

    def _move_labels(self) -> None:
        """A label moves once the version it moves to is served; till then it stays."""
        labels = {}
        for label, version in self.config.version_labels.items():
            target = version if version in self._now.versions else self._now.labels.get(label)
            if target is not None:
                labels[label] = target
        self._now = _Serving(self._now.versions, labels)

    def _note(self, version: int, state: VersionState) -> None:
        self._states = {**self._states, version: state}


def _fingerprint(path: Path) -> tuple[object, ...]:
    """Changes when a file of the folder does; contents are not read."""
    stats = [(p, p.stat()) for p in sorted(path.rglob("*"))]
    return tuple((str(p), s.st_size, s.st_mtime_ns) for p, s in stats)


class Registry:
    """The models a server answers for, and the thread that polls them.

    Args:
        read: returns the configuration of every model; called before each poll.
        seconds: between polls.
        batching: how requests are joined; None runs each alone.
    """

    def __init__(
        self,
        read: Callable[[], list[ModelConfig]],
        seconds: float,
        batching: BatchingParameters | None = None,
    ) -> None:
        self.metrics = Metrics()
        self._read = read
        self._seconds = seconds
        self._batching = batching
        self._stores: Mapping[str, ModelStore] = {}
        # A configuration that came by a request, and what was read when it came.
        self._told: tuple[list[ModelConfig], list[ModelConfig]] | None = None
        self._polling = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="poll", daemon=True)

    def poll(self) -> None:
        """Reads the configuration and polls each model once."""
        with self._polling:
            read = self._read()
            if self._told is not None and self._told[1] != read:
                self._told = None
            stores = {}
            for config in self._told[0] if self._told else read:
                store = self._stores.get(config.name) or ModelStore(
                    config, self._batching, self.metrics
                )
                store.config = config
                stores[config.name] = store
                store.poll()
            self._stores = stores

    def reload(self, configs: list[ModelConfig]) -> None:
        """Takes these models in place of those that were read, until what is read changes.

        Raises:
            StatusError: INVALID_ARGUMENT, none or one twice; ABORTED, one that cannot be served.
        """
        names = [config.name for config in configs]
        if not configs or len(set(names)) < len(names) or not all(names):
            raise invalid_argument(f"Expected models of different names, received: {names}")
        before = self._told
        self._told = (configs, self._read())
        self.poll()
        idle = [store.name for store in self.models() if not store.available()]
        if idle:
            self._told = before
            self.poll()
            raise StatusError(
                grpc.StatusCode.ABORTED, f"No version of {', '.join(idle)} can be served"
            )

    def start(self) -> None:
        """Polls in the background until `close`."""
        self._thread.start()

    def close(self) -> None:
        """Ends the polling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def model(self, name: str) -> ModelStore:
        """The store of a model.

        Raises:
            StatusError: NOT_FOUND.
        """
        if name not in self._stores:
            raise not_found(f"Servable not found for request: Latest({name})")
        return self._stores[name]

    def has(self, name: str) -> bool:
        """Whether a model of this name is configured."""
        return name in self._stores

    def models(self) -> list[ModelStore]:
        """All stores."""
        return list(self._stores.values())

    def _watch(self) -> None:
        told = ""
        while not self._stop.wait(self._seconds):
            try:
                self.poll()
                told = ""
            except Exception as error:
                if str(error) != told:
                    logger.warning("polling failed: %s", error)
                told = str(error)
