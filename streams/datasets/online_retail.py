"""Online Retail: 25,900 invoices of a UK gift retailer, 2010-12-01 to 2011-12-09."""

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from streams.datasets.dataset import Dataset
from streams.files.outgoing import OutgoingEvent, cloud_event

SOURCE = "/online-retail"
CURRENCY = "GBP"


def read(path: Path) -> Iterator[OutgoingEvent]:
    """Yield an order.placed or, for a negative invoice, an order.refunded for each row.

    A refund has no order_id: a credit note does not say which invoice it takes back. Invoices
    without a customer are events without a customer and without a key, which the service refuses.
    Amounts are the text of the file, which has at most two decimals.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield _event(row["invoice"], row["customer_id"] or None, row["time"], row["amount"])


def _event(invoice: str, customer_id: str | None, at: str, amount: str) -> OutgoingEvent:
    time = datetime.fromisoformat(at)
    whose = {} if customer_id is None else {"customer_id": customer_id}
    data: dict[str, object]
    if Decimal(amount) < 0:
        event_type = "order.refunded"
        data = {"refund_id": invoice, "amount": amount.removeprefix("-"), "refunded_at": time}
    else:
        event_type = "order.placed"
        data = {"order_id": invoice, "total": amount, "placed_at": time}
    data |= {"currency": CURRENCY, **whose}
    return cloud_event(
        "orders",
        event_type,
        source=SOURCE,
        event_id=invoice,
        time=time,
        data=data,
        customer_id=customer_id,
    )


ONLINE_RETAIL = Dataset(
    name="online-retail",
    title="Online Retail, a UK gift retailer, 2010-2011",
    source="Daqing Chen (2015), UCI Machine Learning Repository, doi.org/10.24432/C5BW33",
    licence="CC BY 4.0",
    currency=CURRENCY,
    first=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
    last=datetime(2011, 12, 9, 12, 50, tzinfo=UTC),
    orders=22_062,
    refunds=3_838,
    file_name="online_retail_invoices.csv.gz",
    where_to_get_it=(
        "the UCI Machine Learning Repository, data set 352 (Online Retail), its lines summed to "
        "invoices as examples/data/README.md says"
    ),
    in_source_tree=False,
    read=read,
)
