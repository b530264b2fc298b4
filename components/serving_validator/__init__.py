"""Gates the push on a served model's answers."""
