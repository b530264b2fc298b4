"""Tuning: a search for the model settings with the least loss on `tune`."""
