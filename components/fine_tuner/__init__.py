"""FineTuner: an encoder that has learned from clicks."""
