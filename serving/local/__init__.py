"""The parts of the local stand-in for TensorFlow Serving; see `serving.local_server`."""
