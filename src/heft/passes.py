"""A pass over shards on Beam: one function, applied to each, its results in order.

Results travel as files, so that they are the same however the work was spread,
and so that any worker sees how far all of them have come.
"""

import logging
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import cloudpickle  # type: ignore[import-untyped]
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from heft.errors import HeftError

__all__ = ["MakePipeline", "Passes", "local_pipeline"]

MakePipeline = Callable[[], Any]

_SECONDS_BETWEEN_LINES = 10.0

_log = logging.getLogger(__name__)


def local_pipeline() -> beam.Pipeline:
    """A pipeline in this process; Beam's default would look for a runner to download."""
    return beam.Pipeline(runner=FnApiRunner())


@dataclass(frozen=True)
class Passes:
    """Runs one pass after the other.

    Attributes:
        folder: that all workers reach; holds what passes leave for the next.
        make_pipeline: makes a Beam pipeline.
    """

    folder: Path
    make_pipeline: MakePipeline = local_pipeline

    def run(
        self,
        name: str,
        step: Callable[[Any, Any], Any],
        elements: Sequence[Any],
        sizes: Sequence[int],
        carried: Any = None,
        unit: str = "rows",
    ) -> list[Any]:
        """`step(carried, element)` for each element.

        Args:
            name: of the pass, once per folder, for lines of progress.
            step: a function of a module; its results are kept in memory, so that
                they should be facts and not rows.
            elements: small, and equal in any run.
            sizes: of each element, in `unit`, for the time left.
            carried: read once by each worker, from a file.
            unit: of `sizes`.

        Returns:
            Results in the order of `elements`.

        Raises:
            HeftError: what `step` raised, for the first element that it did for.
        """
        folder = self.folder / name
        folder.mkdir(parents=True)
        with (folder / "carried").open("wb") as file:
            # Estimators may be of a notebook, or hold a library's functions.
            cloudpickle.dump(carried, file)
        plan = _Plan(str(folder), name, tuple(sizes), unit, time.time())
        with self.make_pipeline() as pipeline:
            _ = (
                pipeline
                | f"{name}: elements" >> beam.Create(list(enumerate(elements)))
                | f"{name}: spread" >> beam.Reshuffle()
                | f"{name}: step" >> beam.ParDo(_Step(step, plan))
            )
        return [_result(plan.result(k)) for k in range(len(elements))]


@dataclass(frozen=True)
class _Plan:
    folder: str
    name: str
    sizes: tuple[int, ...]
    unit: str
    began: float

    def result(self, number: int) -> Path:
        return Path(self.folder) / f"{number:05d}.done"


class _Step(beam.DoFn):
    def __init__(self, step: Callable[[Any, Any], Any], plan: _Plan) -> None:
        self._step, self._plan = step, plan

    def setup(self) -> None:
        with (Path(self._plan.folder) / "carried").open("rb") as file:
            self._carried = pickle.load(file)
        self._told = self._plan.began

    def process(self, element: tuple[int, Any]) -> None:
        number, value = element
        try:
            found = self._step(self._carried, value)
        except HeftError as error:
            found = _Failure(error)
        path = self._plan.result(number)
        # Whole or not at all: Beam may try an element twice.
        part = path.with_suffix(".part")
        part.write_bytes(pickle.dumps(found))
        part.replace(path)
        self._tell()

    def _tell(self) -> None:
        now = time.time()
        if now - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = now
        plan = self._plan
        ready = [int(path.stem) for path in Path(plan.folder).glob("*.done")]
        done, total = sum(plan.sizes[k] for k in ready), sum(plan.sizes)
        seconds = now - plan.began
        _log.info(
            "%s: %d of %d shards, %.0f %s/s, %.0f s left",
            plan.name,
            len(ready),
            len(plan.sizes),
            done / seconds,
            plan.unit,
            (total - done) * seconds / max(done, 1),
        )


@dataclass(frozen=True)
class _Failure:
    error: HeftError


def _result(path: Path) -> Any:
    found = pickle.loads(path.read_bytes())
    if isinstance(found, _Failure):
        raise found.error
    return found
