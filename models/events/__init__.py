"""Event types, one file per subject: contract, registers, and how they fold, join and erase."""

# In the order in which refusals and documents list them.
from models.events import orders, refunds, tickets, surveys, acquisitions, identities  # isort: skip  # noqa: F401
