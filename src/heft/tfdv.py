"""TensorFlow Data Validation, importable on its own."""

import heft.worker_plugin  # noqa: F401, I001
import tensorflow_data_validation as tfdv

__all__ = ["tfdv"]
