"""Speed and precision of the text encoder, beside sentence-transformers."""
