"""Log files as they land: micro-batches, and a new model when it is time."""
