"""What the status of an order says: whether it counts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Standing(Enum):
    """What became of an order."""

    PAID = "paid"
    """It counts; part of it may have been refunded."""
    REFUNDED = "refunded"
    """It counts, and all of it was refunded, if the row does not say how much."""
    CANCELLED = "cancelled"
    """It is taken back, as if it had not been placed."""
    UNPAID = "unpaid"
    """It does not count: not paid yet, or never."""


STATUSES: Mapping[str, Standing] = {
    "paid": Standing.PAID,
    "partially_refunded": Standing.PAID,
    "captured": Standing.PAID,
    "settled": Standing.PAID,
    "succeeded": Standing.PAID,
    "success": Standing.PAID,
    "complete": Standing.PAID,
    "completed": Standing.PAID,
    "fulfilled": Standing.PAID,
    "shipped": Standing.PAID,
    "delivered": Standing.PAID,
    "refunded": Standing.REFUNDED,
    "cancelled": Standing.CANCELLED,
    "canceled": Standing.CANCELLED,
    "unpaid": Standing.UNPAID,
    "open": Standing.UNPAID,
    "pending": Standing.UNPAID,
    "pending_payment": Standing.UNPAID,
    "authorized": Standing.UNPAID,
    "partially_paid": Standing.UNPAID,
    "on_hold": Standing.UNPAID,
    "draft": Standing.UNPAID,
    "failed": Standing.UNPAID,
    "declined": Standing.UNPAID,
    "expired": Standing.UNPAID,
    "voided": Standing.UNPAID,
}
"""Statuses whose meaning does not depend on the shop; others have to be explained."""


def plain_status(status: object) -> str:
    """Return a status as statuses are compared: "On hold" and "on-hold" are one."""
    return str(status).strip().lower().replace(" ", "_").replace("-", "_")
