"""WooCommerce: the CSV files of its order export extensions.

Columns: https://woocommerce.com/document/import-and-export-of-woocommerce-orders/
Statuses: https://woocommerce.github.io/code-reference/classes/Automattic-WooCommerce-Enums-OrderStatus.html
"""

from streams.files.shops.shop import Shop, registered
from streams.files.statuses import Standing

_STATUSES = {
    "processing": Standing.PAID,
    "completed": Standing.PAID,
    "refunded": Standing.REFUNDED,
    "cancelled": Standing.CANCELLED,
    "pending": Standing.UNPAID,
    "pending_payment": Standing.UNPAID,
    "on_hold": Standing.UNPAID,
    "failed": Standing.UNPAID,
    "draft": Standing.UNPAID,
    "checkout_draft": Standing.UNPAID,
    "auto_draft": Standing.UNPAID,
    "new": Standing.UNPAID,
    "trash": Standing.UNPAID,
}

WOOCOMMERCE = registered(
    Shop(
        name="woocommerce",
        title="WooCommerce, orders",
        columns={
            "order_id": ("orderid", "ordernumber"),
            "customer_id": ("customerid", "customeruser", "customeruserid"),
            "time": ("orderdate", "datecreated"),
            "amount": ("ordertotal", "ordertotalamount", "total"),
            "tax": ("taxtotal", "ordertotaltaxamount", "totaltax"),
            "refunded": ("refundedtotal", "totalrefunded", "orderrefundamount"),
            "currency": ("ordercurrency", "currency"),
            "status": ("status", "orderstatus"),
        },
        otherwise=("billingemail", "customeremail", "email(billing)"),
        nobody=frozenset({"0"}),
        statuses=_STATUSES | {f"wc_{status}": standing for status, standing in _STATUSES.items()},
    )
)
