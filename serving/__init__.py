"""What runs beside TensorFlow Serving: its configuration, a client, a local stand-in."""
