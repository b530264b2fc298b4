"""Proofs that the estimators of importance measure what they say, one command each."""
