"""Shopify: the CSV file of Orders > Export.

Statuses: https://shopify.dev/docs/api/admin-graphql/latest/enums/OrderDisplayFinancialStatus
"""

from streams.files.shops.shop import Shop, registered
from streams.files.statuses import Standing

SHOPIFY = registered(
    Shop(
        name="shopify",
        title="Shopify, orders",
        columns={
            "order_id": ("name",),
            "customer_id": ("email",),
            "time": ("createdat",),
            "amount": ("total",),
            "tax": ("taxes",),
            "refunded": ("refundedamount",),
            "currency": ("currency",),
            "status": ("financialstatus",),
            "cancelled_at": ("cancelledat",),
            "channel": ("source",),
        },
        otherwise=("phone", "billingphone"),
        statuses={
            "paid": Standing.PAID,
            "partially_refunded": Standing.PAID,
            "refunded": Standing.REFUNDED,
            "authorized": Standing.UNPAID,
            "pending": Standing.UNPAID,
            "partially_paid": Standing.UNPAID,
            "expired": Standing.UNPAID,
            "voided": Standing.UNPAID,
        },
        line_items=True,
    )
)
