"""Stripe: the CSV file of Payments > Export.

Columns: https://docs.cello.so/guides/attribution/stripe-reports
Failed payments are in it: https://support.stripe.com/questions/exporting-a-report-of-all-transactions
"""

from streams.files.shops.shop import Shop, registered
from streams.files.statuses import Standing

STRIPE = registered(
    Shop(
        name="stripe",
        title="Stripe, payments",
        columns={
            "order_id": ("id",),
            "customer_id": ("customerid",),
            "time": ("created(utc)", "createddate(utc)"),
            "amount": ("amount",),
            "refunded": ("amountrefunded",),
            "currency": ("currency",),
            "status": ("status",),
        },
        otherwise=("customeremail",),
        statuses={
            "paid": Standing.PAID,
            "succeeded": Standing.PAID,
            "partially_refunded": Standing.PAID,
            "partial_refund": Standing.PAID,
            "refunded": Standing.REFUNDED,
            "failed": Standing.UNPAID,
            "blocked": Standing.UNPAID,
            "canceled": Standing.UNPAID,
            "incomplete": Standing.UNPAID,
            "pending": Standing.UNPAID,
            "uncaptured": Standing.UNPAID,
            "requires_action": Standing.UNPAID,
            "requires_capture": Standing.UNPAID,
            "requires_confirmation": Standing.UNPAID,
            "requires_payment_method": Standing.UNPAID,
        },
        captured="captured",
        utc=True,
    )
)
