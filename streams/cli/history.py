"""`clv show --history`: what a customer was worth on past days."""

from __future__ import annotations

from rich.table import Table

from models.aggregate.past import known_since
from models.aggregate.record import CustomerRecord
from models.context import Interpretation
from models.documents import moment
from models.outlook import Worth, history, past_moments
from streams.cache import CachedScore
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError, out, print_json
from streams.cli.tables import money, share
from streams.registry.reading import read_registry
from streams.serving.stored import StoredRecords
from streams.settings import Settings
from streams.topics import changelog_topic


async def show_history(settings: Settings, score: CachedScore, *, as_json: bool) -> None:
    """Compute a customer's history from their stored record, and print it. Errors: CommandError."""
    broker, topics, economics = need_broker(settings), settings.topics, settings.economics
    stored = StoredRecords(broker, changelog_topic(settings), topics.updates)
    record = await stored.of(score)
    if record is None:
        raise CommandError(
            f"the state of customer {score.customer_id!r} is not in {changelog_topic(settings)}: "
            "check CLV_BROKER and CLV_APP_ID, or run `clv rebuild-cache`"
        )
    registry = await read_registry(broker, topics.models, economics.currency)
    by = Interpretation(economics, registry.timeline, registry.rules)
    days = list(history(record, past_moments(record, economics), by))
    since = known_since(record.aggregate)
    if as_json:
        print_json(
            {
                "customer_id": score.customer_id,
                "currency": economics.currency,
                "known_since": None if since is None else moment(since).isoformat(),
                "days": [
                    each._asdict() | {"as_of": moment(each.as_of).isoformat()} for each in days
                ],
            }
        )
    else:
        out().print(_table(score.customer_id, record, days, by))


def _table(
    customer_id: str, record: CustomerRecord, days: list[Worth], by: Interpretation
) -> Table:
    since = known_since(record.aggregate)
    begins = (
        "" if since is None else f"What happened until {moment(since):%Y-%m-%d} is known as sums. "
    )
    table = Table(
        title=f"Customer {customer_id} on past days ({by.economics.currency})",
        caption=f"{begins}By the parameters in force on each day.",
    )
    table.add_column("end of")
    for name in ("value", "realised", "expected", "P(alive)", "P(purchase)"):
        table.add_column(name, justify="right")
    for each in days:
        table.add_row(
            f"{moment(each.as_of):%Y-%m-%d}",
            money(each.clv),
            money(each.realised),
            money(each.expected),
            share(each.p_alive),
            share(each.p_purchase),
        )
    return table
