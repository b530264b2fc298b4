"""Small SavedModels with the signatures of the data contract, made in a second."""

from pathlib import Path

import tensorflow as tf

__all__ = ["COLUMNS", "REQUIRED", "TinyModel", "export", "export_lists", "export_single"]

COLUMNS = ("query", "title", "category", "brand", "price", "device")
REQUIRED = ("query", "title")
_SPEC = {
    name: tf.TensorSpec([None], tf.float32 if name == "price" else tf.string, name=name)
    for name in COLUMNS
}
_FEATURES = {
    name: tf.io.FixedLenFeature([], tf.float32, 0.0)
    if name == "price"
    else tf.io.FixedLenFeature([], tf.string, "")
    for name in COLUMNS
}


class TinyModel(tf.Module):
    """`ctr` depends on every text, the price and `offset`, which tells versions apart."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = tf.Variable(offset, dtype=tf.float32)
        words = tf.lookup.KeyValueTensorInitializer(["tv", "lamp"], [0.5, -0.5])
        self.words = tf.lookup.StaticHashTable(words, 0.0)

    def score(self, columns: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Three probabilities of shape (batch,)."""
        logit = self.offset + self.words.lookup(columns["query"])
        for name in ("title", "category", "brand", "device"):
            length = tf.strings.length(columns[name], unit="UTF8_CHAR")
            logit += 0.01 * tf.math.log1p(tf.cast(length, tf.float32))
        price = tf.where(columns["price"] == 0.0, 10.0, columns["price"])
        ctr = tf.sigmoid(logit - 0.1 * tf.math.log1p(tf.abs(price)))
        cvr = tf.sigmoid(logit - 1.0)
        return {"ctr": ctr, "cvr": cvr, "ctcvr": ctr * cvr}


def export_lists(path: Path) -> Path:
    """Writes a model that takes a vector of two numbers and three texts a row."""
    words = tf.lookup.KeyValueTensorInitializer(["tv", "lamp"], [0.5, -0.5])
    model = tf.Module()
    model.words = tf.lookup.StaticHashTable(words, 0.0)

    def score(columns: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logit = tf.reduce_sum(columns["image"] * [1.0, -2.0], axis=1)
        logit += tf.reduce_sum(model.words.lookup(columns["history"]) * [3.0, 2.0, 1.0], axis=1)
        ctr = tf.sigmoid(logit + model.words.lookup(columns["query"]))
        return {"ctr": ctr, "cvr": ctr / 2, "ctcvr": ctr * ctr / 2}

    spec = {
        "query": tf.TensorSpec([None], tf.string, "query"),
        "image": tf.TensorSpec([None, 2], tf.float32, "image"),
        "history": tf.TensorSpec([None, 3], tf.string, "history"),
    }
    serving_default = tf.function(score, input_signature=[spec])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        raw = tf.io.parse_example(examples, {
            "query": tf.io.FixedLenFeature([], tf.string, ""),
            "image": tf.io.FixedLenFeature([2], tf.float32, [0.0, 0.0]),
            "history": tf.io.RaggedFeature(tf.string),
        })  # fmt: skip
        return score(raw | {"history": raw["history"].to_tensor(shape=[None, 3])})

    signatures = {"serving_default": serving_default, "examples": examples}
    tf.saved_model.save(model, str(path), signatures=signatures)
    return path


def export_single(path: Path) -> Path:
    """Writes a model of one input, a matrix of two columns, and one output, their sum."""
    model = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def add(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"sum": tf.reduce_sum(x, axis=1)}

    tf.saved_model.save(model, str(path), signatures={"serving_default": add})
    return path


def export(path: Path, offset: float = 0.0, examples_offset: float | None = None) -> Path:
    """Writes a TinyModel; with `examples_offset` the two signatures disagree.

    Beside them are `classify`, of which the scores are those of no click and of a click, and
    `regress`, the click rate, which is a method for predictions by its name as all that Keras
    exports. As in Heft's own models every column but two has a default.
    """
    model = TinyModel(offset)
    other = model if examples_offset is None else TinyModel(examples_offset)
    model.other = other
    defaults = {name: None if name in REQUIRED else tf.zeros([1]) if name == "price"
                else tf.constant([""]) for name in COLUMNS}  # fmt: skip

    @tf.function(input_signature=[_SPEC])
    def serving_default(columns: dict[str, tf.Tensor] = defaults) -> dict[str, tf.Tensor]:
        return model.score(columns)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        return other.score(tf.io.parse_example(examples, _FEATURES))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        ctr = other.score(tf.io.parse_example(inputs, _FEATURES))["ctr"]
        classes = tf.tile([["no click", "click"]], [tf.shape(ctr)[0], 1])
        return {"classes": classes, "scores": tf.stack([1 - ctr, ctr], axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": other.score(tf.io.parse_example(inputs, _FEATURES))["ctr"]}

    signatures = {
        "serving_default": serving_default, "examples": examples,
        "classify": classify, "regress": regress,
    }  # fmt: skip
    tf.saved_model.save(model, str(path), signatures=signatures)
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(path))
    names.replace_method_name(signature_key="classify", method_name="tensorflow/serving/classify")
    names.save()
    return path
