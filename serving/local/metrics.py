"""What Prometheus reads, under the names that TensorFlow Serving gives it."""

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate

__all__ = ["Metrics"]

# As tensorflow/serving's: 10 µs to about 20 minutes.
_BOUNDS = tuple(10 * 1.8**power for power in range(33))
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and histograms; any thread may count.

    The labels are names of models, methods and codes, of which there are few: nothing that
    a caller makes up becomes one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}

    def count(self, name: str, labels: Mapping[str, str], by: float = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            cells = self._counters.setdefault(name, {})
            key = tuple(labels.items())
            cells[key] = cells.get(key, 0) + by

    def observe(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Adds a value to a histogram."""
        with self._lock:
            cells = self._histograms.setdefault(name, {})
            cells.setdefault(tuple(labels.items()), _Histogram()).add(value)

    def request(self, model: str, api: str, entrypoint: str, status: str, micros: float) -> None:
        """Counts an answered request, and how long it took if it was answered well.

        Args:
            model: its name.
            api: Predict, Classify, Regress or MultiInference over gRPC; predict, classify or
                regress over REST, as the path has it.
            entrypoint: REST or GRPC.
            status: the name of its code.
            micros: that it took.
        """
        self.count(":tensorflow:serving:request_count", {"model_name": model, "status": status})
        if status != "OK":
            return
        labels = {"model_name": model, "API": api, "entrypoint": entrypoint}
        self.observe(":tensorflow:serving:request_latency", labels, micros)

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, counters in sorted(self._counters.items()):
            yield f"# TYPE {name} counter"
            for labels, value in sorted(counters.items()):
                yield f"{name}{_braces(labels)} {value:g}"
        for name, histograms in sorted(self._histograms.items()):
            yield f"# TYPE {name} histogram"
            for labels, histogram in sorted(histograms.items()):
                yield from histogram.lines(name, labels)


class _Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(_BOUNDS, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        bounds = (*(f"{bound:g}" for bound in _BOUNDS), "+Inf")
        for bound, below in zip(bounds, accumulate(self._counts), strict=True):
            yield f"{name}_bucket{_braces((*labels, ('le', bound)))} {below}"
        yield f"{name}_sum{_braces(labels)} {self._sum:g}"
        yield f"{name}_count{_braces(labels)} {sum(self._counts)}"


def _braces(labels: Labels) -> str:
    escaped = (
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
