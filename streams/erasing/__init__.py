"""Erasing a customer: the key of the fingerprints, and the proof of what is left where."""
