"""The pure core: contracts, aggregates, models, value and segments; no I/O and no clock."""
