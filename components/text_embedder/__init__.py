"""TextEmbedder: each distinct text embedded once."""
