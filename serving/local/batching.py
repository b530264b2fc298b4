"""Requests that arrive together, joined and run as one."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from serving.local.status import StatusError, invalid_argument

__all__ = ["BatchingParameters", "MicroBatcher"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class BatchingParameters:
    """As tensorflow/serving's batching_parameters_file, with its defaults.

    Attributes:
        max_batch_size: rows of a batch, and of a request.
        batch_timeout_micros: that the first request of a batch waits for others.
        max_enqueued_batches: that wait for a thread, before requests are refused.
        num_batch_threads: batches that run at a time.
        allowed_batch_sizes: rows that a batch is padded to, in ascending order.
    """

    max_batch_size: int = 1_000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 2
    allowed_batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = self.allowed_batch_sizes
        if list(sizes) != sorted(set(sizes)) or (sizes and sizes[-1] != self.max_batch_size):
            raise ValueError(
                f"allowed_batch_sizes={list(sizes)} must ascend and end with "
                f"max_batch_size={self.max_batch_size}"
            )


@dataclass
class _Task:
    inputs: Arrays
    rows: int
    outputs: Arrays | None = None
    error: Exception | None = None


@dataclass
class _Batch:
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0
    full: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


class MicroBatcher:
    """Joins the requests of one signature. The thread that opens a batch also runs it.

    Args:
        run: one array per input → one array per output, all of as many rows.
        parameters: see there.
        waited: told the microseconds that a batch was open and waiting.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        parameters: BatchingParameters,
        waited: Callable[[float], None] = lambda micros: None,
    ) -> None:
        self._run = run
        self._parameters = parameters
        self._waited = waited
        self._lock = threading.Lock()
        self._open: _Batch | None = None
        self._pending = 0
        self._threads = threading.Semaphore(parameters.num_batch_threads)

    def __call__(self, inputs: Arrays) -> Arrays:
        """The outputs of these inputs, after they were run with others.

        Raises:
            StatusError: INVALID_ARGUMENT, rows differ or are too many; UNAVAILABLE, the queue
                is full; else whatever `run` raises for these inputs alone.
        """
        task = _Task(inputs, self._rows(inputs))
        batch, leads = self._join(task)
        if leads:
            started = time.perf_counter()
            batch.full.wait(self._parameters.batch_timeout_micros / 1e6)
            with self._threads:
                with self._lock:
                    if self._open is batch:
                        self._open = None
                    self._pending -= 1
                self._waited(1e6 * (time.perf_counter() - started))
                try:
                    self._process(batch.tasks)
                finally:
                    batch.done.set()
        else:
            batch.done.wait()
        if task.error is not None:
            raise task.error
        assert task.outputs is not None
        return task.outputs

    def _rows(self, inputs: Arrays) -> int:
        rows = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
        if len(rows) != 1 or 0 in rows:
            raise invalid_argument(
                "Batching input tensors supplied in a given call to Run() must have equal "
                f"0th-dimension size, of at least 1. Sizes were: {sorted(rows)}"
            )
        [size] = rows
        if size > self._parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        return size

    def _join(self, task: _Task) -> tuple[_Batch, bool]:
        """The batch that a task is in, and whether it is the first there."""
        with self._lock:
            batch = self._open
            room = batch is not None and (batch.rows + task.rows <= self._parameters.max_batch_size)
            if batch is not None and not room:
                batch.full.set()
                self._open = None
            if batch is None or not room:
                if self._pending >= self._parameters.max_enqueued_batches:
                    raise StatusError(
                        grpc.StatusCode.UNAVAILABLE,
                        "The batch scheduling queue to which this task was submitted is full",
                    )
                self._pending += 1
                batch = self._open = _Batch()
            batch.tasks.append(task)
            batch.rows += task.rows
            if batch.rows == self._parameters.max_batch_size:
                batch.full.set()
                self._open = None
            return batch, len(batch.tasks) == 1

    def _process(self, tasks: Sequence[_Task]) -> None:
        try:
            outputs = self._run(self._joined(tasks))
        except Exception as error:
            if len(tasks) == 1:
                tasks[0].error = error
                return
            # What one of them asked is no reason to refuse the others.
            for task in tasks:
                self._process([task])
            return
        begin = 0
        for task in tasks:
            task.outputs = {k: v[begin : begin + task.rows] for k, v in outputs.items()}
            begin += task.rows

    def _joined(self, tasks: Sequence[_Task]) -> Arrays:
        rows = sum(task.rows for task in tasks)
        allowed = self._parameters.allowed_batch_sizes
        padding = next((size for size in allowed if size >= rows), rows) - rows
        joined = {}
        for name in tasks[0].inputs:
            parts = [task.inputs[name] for task in tasks]
            if padding:
                parts.append(np.repeat(parts[-1][:1], padding, axis=0))
            joined[name] = np.concatenate(parts)
        return joined
