"""Requests that a server answers for itself before it lets anybody else ask.

TensorFlow Serving runs them when it has loaded a version, so that nobody waits for what
TensorFlow does once: https://www.tensorflow.org/tfx/serving/saved_model_warmup.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

from heft import features as f
from heft.model.raw_columns import RawColumns

__all__ = ["WARM_UP_FILE", "WARM_UP_ROWS", "Known", "write_warm_up"]

WARM_UP_FILE = "assets.extra/tf_serving_warmup_requests"
# One item, a page, and the sizes that a server which batches pads to (serving/batching.config).
WARM_UP_ROWS = (1, 16, 100, 128, 256, 1024)

_NEW_TITLES = 3  # in a request with new texts

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Known:
    """Texts of the table, UTF-8; of each at most as many as a request has rows."""

    queries: tuple[bytes, ...]
    titles: tuple[bytes, ...]

    @classmethod
    def of(cls, queries: Sequence[bytes], titles: Sequence[bytes]) -> "Known":
        """The first texts of a table."""
        most = max(WARM_UP_ROWS)
        return cls(tuple(queries[:most]), tuple(titles[:most]))


def write_warm_up(
    path: str | Path, columns: RawColumns, known: Known, rows: Sequence[int] = WARM_UP_ROWS
) -> None:
    """Writes the requests beside a SavedModel.

    For each number of rows one request of texts that the table holds, one with a new query
    and new titles among them, and one of tf.Examples.

    Args:
        path: of the SavedModel.
        columns: that it takes.
        known: texts of its table.
        rows: of the requests.
    """
    file = Path(path) / WARM_UP_FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request in _requests(columns, known, rows):
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def _requests(
    columns: RawColumns, known: Known, sizes: Sequence[int]
) -> Iterator[predict_pb2.PredictRequest]:
    new = [text for text in (b"unheard-of text %d" % i for i in range(4096))
           if text not in known.queries and text not in known.titles]  # fmt: skip
    for rows in sizes:
        page = _page(columns, known, rows)
        yield _request("serving_default", page)
        titles = [*new[1 : 1 + min(rows, _NEW_TITLES)], *page[f.TITLE]][:rows]
        queries = np.array([new[0]] * rows, object)
        changed = page | {f.QUERY: queries, f.TITLE: np.array(titles, object)}
        yield _request("serving_default", changed)
        yield _request("examples", {"examples": np.array(_examples(page), object)})


def _page(columns: RawColumns, known: Known, rows: int) -> Columns:
    """One query and its candidates; of everything else nothing is known."""
    page: Columns = {
        f.QUERY: np.array([(known.queries or (b"",))[0]] * rows, object),
        f.TITLE: np.array(list(islice(cycle(known.titles or (b"",)), rows)), object),
    }
    for name, default in columns.defaults.items():
        if default is not None:
            page[name] = np.repeat(default.numpy(), rows, axis=0)
    return page


def _examples(page: Columns) -> list[bytes]:
    examples = []
    for query, title in zip(page[f.QUERY], page[f.TITLE], strict=True):
        example = tf.train.Example()
        example.features.feature[f.QUERY].bytes_list.value.append(query)
        example.features.feature[f.TITLE].bytes_list.value.append(title)
        examples.append(example.SerializeToString())
    return examples


def _request(signature: str, columns: Columns) -> predict_pb2.PredictRequest:
    spec = model_pb2.ModelSpec(name="heft", signature_name=signature)
    request = predict_pb2.PredictRequest(model_spec=spec)
    for name, values in columns.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request
