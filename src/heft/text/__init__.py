"""Text: one BERT encoder, each distinct text once, the same in training and serving."""
