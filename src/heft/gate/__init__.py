"""Is this span fit to learn from? The schema, the spans before, what is asked, the labels."""
