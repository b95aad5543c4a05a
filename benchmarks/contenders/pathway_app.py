"""A Pathway app: reductions per customer, kept in memory, and a stream of their changes.

Pathway asks for older packages than ours, so it runs in an environment of its own, named by
BENCH_PATHWAY_PYTHON, and imports nothing of this project but the settings.
"""

import json

import pathway as pw

from benchmarks.contenders.settings import Settings

MARGIN = 0.3
CONTACT = 5.0
UNITS = 10_000


@pw.udf(deterministic=True)
def fields(record: bytes) -> tuple[str, int, int, int, int]:
    event = json.loads(record)
    data = event["data"]
    customer: str = data["customer_id"]
    match event["type"]:
        case "order.placed":
            return customer, 1, _units(data["total"]), 0, 0
        case "order.refunded":
            return customer, 0, 0, _units(data["amount"]), 0
        case "ticket.opened":
            return customer, 0, 0, 0, 1
    raise TypeError(event["type"])


def _units(money: str) -> int:
    whole, _, fraction = money.partition(".")
    return int(whole + fraction.ljust(4, "0"))


@pw.udf(deterministic=True)
def document(customer: str, orders: int, revenue: int, refunded: int, contacts: int) -> str:
    return json.dumps(
        {
            "customer_id": customer,
            "orders": orders,
            "revenue": revenue / UNITS,
            "refunded": refunded / UNITS,
            "contacts": contacts,
            "value": round((revenue - refunded) / UNITS * MARGIN - contacts * CONTACT, 2),
        }
    )


def main() -> None:
    settings = Settings.from_environ()
    kafka = {
        "bootstrap.servers": settings.broker,
        "group.id": settings.app_id,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": "true",
        "auto.commit.interval.ms": str(int(settings.commit_interval * 1000)),
        "session.timeout.ms": str(int(settings.broker_session_timeout * 1000)),
        "heartbeat.interval.ms": str(int(settings.broker_heartbeat_interval * 1000)),
    }
    read = [
        pw.io.kafka.read(kafka, topic=topic, format="raw", autocommit_duration_ms=100)
        for topic in (settings.topics_orders, settings.topics_support)
    ]
    records = read[0].concat_reindex(read[1])
    parsed = records.select(event=fields(pw.this.data))
    events = parsed.select(
        customer=pw.this.event[0],
        orders=pw.this.event[1],
        revenue=pw.this.event[2],
        refunded=pw.this.event[3],
        contacts=pw.this.event[4],
    )
    customers = events.groupby(pw.this.customer).reduce(
        pw.this.customer,
        orders=pw.reducers.sum(pw.this.orders),
        revenue=pw.reducers.sum(pw.this.revenue),
        refunded=pw.reducers.sum(pw.this.refunded),
        contacts=pw.reducers.sum(pw.this.contacts),
    )
    updates = customers.select(
        pw.this.customer,
        update=document(
            pw.this.customer,
            pw.this.orders,
            pw.this.revenue,
            pw.this.refunded,
            pw.this.contacts,
        ),
    )
    pw.io.kafka.write(
        updates,
        kafka,
        topic_name=settings.topics_updates,
        format="plaintext",
        key=updates.customer,
        value=updates.update,
    )
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
