"""Erasing a customer, and the proof of what is left where."""
