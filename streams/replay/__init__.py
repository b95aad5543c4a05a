"""Replays: the source of the records, their order, their pace and their target."""
