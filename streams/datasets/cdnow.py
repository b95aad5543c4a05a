"""CDNOW: every order of 23,570 customers of an online music shop, 1997-01-01 to 1998-06-30."""

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from streams.datasets.dataset import Dataset
from streams.files.outgoing import OutgoingEvent, cloud_event

SOURCE = "/cdnow"


def read(path: Path) -> Iterator[OutgoingEvent]:
    """Yield one order.placed for each row, by day and within a day by line.

    The file knows days only: an order stands at noon UTC of its day. The order id is made from
    the line in the file, because the file has none.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        by_day = sorted(
            (day, rows.line_num, customer_id, amount) for customer_id, day, _, amount, _ in rows
        )
    for day, line, customer_id, amount in by_day:
        placed_at = datetime(int(day[:4]), int(day[5:7]), int(day[8:]), 12, tzinfo=UTC)
        order_id = f"cdnow-{line}"
        data = {
            "order_id": order_id,
            "customer_id": customer_id,
            "placed_at": placed_at,
            "currency": "USD",
            "total": amount,
        }
        yield cloud_event(
            "orders",
            "order.placed",
            source=SOURCE,
            event_id=order_id,
            time=placed_at,
            data=data,
            customer_id=customer_id,
        )


CDNOW = Dataset(
    name="cdnow",
    title="CDNOW, an online music shop, 1997-1998",
    source="Peter S. Fader and Bruce G. S. Hardie, CDNOW_master, brucehardie.com/datasets",
    licence="published for research and teaching; no formal licence",
    currency="USD",
    first=datetime(1997, 1, 1, 12, tzinfo=UTC),
    last=datetime(1998, 6, 30, 12, tzinfo=UTC),
    orders=69_659,
    refunds=0,
    file_name="cdnow_orders.csv.gz",
    where_to_get_it="examples/data in the source tree of this project",
    in_source_tree=True,
    read=read,
)
