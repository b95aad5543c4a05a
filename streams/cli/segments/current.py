"""Customers and value by segment: now from the cache, or at a later time from the changelog."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from math import fsum

from models.calendar import milliseconds
from models.outputs import CurrentValue
from models.totals import TotalValue
from streams.batch import score_states, total_of
from streams.cache import SegmentTotals
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json
from streams.cli.running import command
from streams.cli.segments.service import open_service
from streams.cli.show import all_totals, reading
from streams.cli.sources import parse_moment
from streams.cli.tables import Totals, expected_table, segments_document, segments_table


@command
async def show_now(*, as_json: bool) -> None:
    """Show what the cache has."""
    settings = load_settings()
    async with reading(settings) as cache:
        totals = await all_totals(cache)
    _print(totals, settings.economics.currency, as_json=as_json)


@command
async def show_later(as_of: str, *, as_json: bool) -> None:
    """Show what a tick as of a later time would make of the customers."""
    settings = load_settings()
    moment = parse_moment(as_of, settings.economics, "--as-of")
    if milliseconds(moment) < milliseconds(datetime.now(UTC)):
        raise CommandError(
            f"--as-of is {as_of!r}, which is over: the changelog has what is known now; score a "
            "file or a recording by `clv score --as-of`"
        )
    service = await open_service(settings)
    context = service.context()
    updates = score_states(service.states, context, moment)
    found: defaultdict[str, defaultdict[str, list[CurrentValue]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for update in updates:
        for dimension, segment in update.segments:
            found[dimension][segment].append(update)
    totals = {
        dimension: {
            segment: SegmentTotals(len(members), round(100 * fsum(each.clv for each in members)))
            for segment, members in by_segment.items()
        }
        for dimension, by_segment in found.items()
    }
    records = {key.decode(): record for key, record in service.customers()}

    def together(members: list[CurrentValue]) -> TotalValue:
        return total_of((records[each.customer_id] for each in members), context, moment)

    expected = {
        dimension: {segment: together(members) for segment, members in by_segment.items()}
        for dimension, by_segment in found.items()
    }
    note = f"as of {moment.isoformat()}, if nothing happens until then"
    economics = settings.economics
    if as_json:
        print_json(segments_document(totals, expected))
        return
    out().print(segments_table(totals, economics.currency, note))
    out().print(expected_table(expected, economics.currency, economics.horizon_days))


def _print(totals: Totals, currency: str, *, as_json: bool) -> None:
    if as_json:
        print_json(segments_document(totals))
    else:
        out().print(segments_table(totals, currency))
