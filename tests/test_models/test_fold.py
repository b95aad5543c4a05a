"""The fold is a commutative, idempotent monoid, and stays small."""

import random
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.daily import MOST_DAYS
from models.aggregate.fold import Effect, fold, merge
from models.aggregate.record import (
    SCHEMA_VERSION,
    CustomerRecord,
    UnreadableRecord,
    decode_record,
    encode_record,
)
from models.aggregate.state import Aggregate
from models.aggregate.summary import SUMS, Summary
from models.aggregate.windows import WINDOWS, rolling_windows
from models.calendar import milliseconds as of_moment
from models.economics import Economics

from .events import cancelled, events, milliseconds, opened, placed, refunded, resolved

CONFIG = Economics()
FEW = Economics(remembered=4)


def folded(sequence, config=CONFIG):
    state = Aggregate()
    for event in sequence:
        fold(state, event, config)
    return state


def as_bytes(state):
    return msgspec.msgpack.encode(state)


def as_dict(summary):
    return {name: getattr(summary, name) for name in SUMS}


@given(st.lists(events(), max_size=25), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_any_permutation_and_duplication_gives_the_same_bytes(sequence, random_):
    doubled = sequence + random_.sample(sequence, len(sequence) // 2)
    random_.shuffle(doubled)
    assert as_bytes(folded(doubled)) == as_bytes(folded(sequence))


@given(st.lists(events(), max_size=25), st.data())
@settings(max_examples=300, deadline=None)
def test_any_split_and_merge_gives_the_same_bytes(sequence, data):
    cut = data.draw(st.integers(0, len(sequence)))
    overlap = data.draw(st.integers(0, cut))
    left, right = folded(sequence[:cut]), folded(sequence[cut - overlap :])
    whole = as_bytes(folded(sequence))
    assert as_bytes(merge(left, right, CONFIG)) == whole
    assert as_bytes(merge(right, left, CONFIG)) == whole


@given(st.lists(events(), max_size=12), st.lists(events(), max_size=12))
@settings(deadline=None)
def test_merge_leaves_its_arguments_alone(first, second):
    left, right = folded(first, FEW), folded(second, FEW)
    before = as_bytes(left), as_bytes(right)
    merge(left, right, FEW)
    assert (as_bytes(left), as_bytes(right)) == before


class Kept:
    """A state with the summary that is kept current, compared with one made anew at every step."""

    def __init__(self, config):
        self.config = config
        self.state = Aggregate()
        self.summary = Summary(self.state, config)
        self.last_day = self.updated = 0

    def fold(self, event, later=0):
        """Fold an event; later: so many days after all events, the windows are asked for."""
        state, config = self.state, self.config
        effect = fold(state, event, config)
        latest = next(reversed(state.orders.values()), None)
        if effect is Effect.APPENDED and self.summary.add_order(latest, config):
            self.updated += 1
        else:
            self.summary = Summary(state, config)
        assert as_dict(self.summary) == as_dict(Summary(state, config))
        self.last_day = max(self.last_day, config.day(of_moment(event.data.occurred_at)))
        today = self.last_day + later
        windows = rolling_windows(state, today, config, self.summary)
        assert windows == rolling_windows(state, today, config)


@given(st.lists(st.tuples(events(), st.sampled_from([0, 0, 5, 80, 400])), max_size=25))
@settings(max_examples=200, deadline=None)
def test_a_summary_kept_current_equals_one_made_anew_at_every_prefix(sequence):
    for config in (CONFIG, FEW):
        kept = Kept(config)
        for event, later in sequence:
            kept.fold(event, later)


def test_sums_by_the_day_begin_anew_when_they_have_grown_long():
    kept = Kept(Economics(remembered=20))
    for n in range(MOST_DAYS + 50):
        kept.fold(placed(f"o{n}", n))
    assert kept.updated == MOST_DAYS + 50
    assert len(kept.summary.daily.days) < MOST_DAYS


def test_a_summary_kept_current_stops_where_compacted_sums_do():
    """Amounts of 14 digits before the point: five of them are more than a sum may hold."""
    for cost in (None, "99999999999999"):
        kept = Kept(Economics(remembered=2))
        for n in range(9):
            kept.fold(placed(f"o{n}", n, "99999999999999", cost_of_goods=cost))


@given(st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_summary_kept_current_knows_returns_and_foreign_money(remembered, random_):
    """Orders in order of time, often two a day, in two currencies, and often given back."""
    config = Economics(remembered=remembered, exchange_rates={"EUR": Decimal("1.0937")})
    kept, day = Kept(config), 0.0
    for number in range(20):
        day += random_.choice([0.1, 0.3, 2.5])
        money = {"currency": random_.choice(["USD", "EUR"])}
        total = f"{random_.randint(0, 90)}.3333"
        kept.fold(placed(f"o{number}", day, total, **money))
        if random_.random() < 0.4:
            back = refunded(f"r{number}", day + 0.01, total, order_id=f"o{number}", **money)
            kept.fold(back)


@given(st.integers(1, 60), st.integers(1, 6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_compacted_sums_equal_what_remembering_everything_gives(count, remembered, random_):
    config = Economics(remembered=remembered)
    history = []
    for n in range(count):
        day = n * 3 + random_.choice([0, 0.2, 4])
        history.append(placed(f"o{n}", day, f"{random_.randint(0, 90)}.5"))
        if random_.random() < 0.3:
            history.append(refunded(f"r{n}", day + 0.1, "3.25"))
        if random_.random() < 0.3:
            history.append(opened(f"t{n}", day + 0.1, complaint=True))
    history.sort(key=lambda event: event.data.occurred_at)
    small, large = folded(history, config), folded(history)
    of_small, of_large = as_dict(Summary(small, config)), as_dict(Summary(large, config))
    # What followed what is known of what is remembered.
    for known in (of_small, of_large):
        del known["complained"], known["returned"]
    assert of_small == of_large
    today = config.day(milliseconds(count * 3 + 5))
    assert rolling_windows(small, today, config) == rolling_windows(large, today, config)


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_arrivals_newer_than_what_is_compacted_commute(random_):
    history = [placed(f"o{n}", n) for n in range(12)]
    late = history[8:]
    random_.shuffle(late)
    assert as_bytes(folded(history[:8] + late, FEW)) == as_bytes(folded(history, FEW))


def test_an_order_older_than_what_is_compacted_is_told_apart_and_changes_nothing():
    state = folded([placed(f"o{n}", 10 + n) for n in range(9)], FEW)
    before = as_bytes(state)
    assert fold(state, placed("late", 1), FEW) is Effect.TOO_OLD
    assert fold(state, placed("o0", 10), FEW) is Effect.TOO_OLD
    assert as_bytes(state) == before


def test_a_cancellation_of_a_compacted_order_is_told_apart_and_known_ones_are_never_forgotten():
    state = folded([placed(f"o{n}", n) for n in range(9)], FEW)
    before = as_bytes(state)
    assert fold(state, cancelled("o0", 20), FEW) is Effect.TOO_OLD
    assert as_bytes(state) == before
    state = folded([placed("a", 0), placed("b", 1), cancelled("b", 2)], FEW)
    for n in range(20):
        fold(state, cancelled(f"unknown-{n}", 3 + n), FEW)
    assert Summary(state, FEW).orders == 1
    assert len(state.cancelled) <= 5


def test_a_revision_cannot_move_an_order_behind_what_is_compacted():
    state = folded([placed(f"o{n}", n) for n in range(9)], FEW)
    before = as_bytes(state)
    assert fold(state, placed("o8", 1, revision=1), FEW) is Effect.TOO_OLD
    assert as_bytes(state) == before
    assert fold(state, placed("o8", 20, revision=1), FEW) is not Effect.TOO_OLD
    assert Summary(state, FEW).purchase_days == 9


def test_a_cancellation_before_its_order_is_kept_where_only_tickets_were_compacted():
    state = folded([opened(f"t{n}", n) for n in range(9)], FEW)
    assert fold(state, cancelled("o", 20), FEW) is Effect.APPLIED
    fold(state, placed("o", 19), FEW)
    assert Summary(state, FEW).orders == 0


def test_ten_thousand_orders_cost_little_more_than_what_is_remembered():
    state = folded(placed(f"o{n}", n / 3) for n in range(10_000))
    summary = Summary(state, CONFIG)
    assert summary.orders == 10_000
    assert summary.gross == 10_000 * 400_000
    size = len(encode_record(CustomerRecord(aggregate=state)))
    assert size < 20_000


def test_a_cancelled_order_leaves_no_purchase_day_unless_something_else_happened_on_it():
    alone = Summary(folded([placed("a", 0), placed("b", 5), cancelled("b", 6)]), CONFIG)
    assert (alone.orders, alone.purchase_days, alone.frequency) == (1, 1, 0)
    assert alone.last_day == alone.first_day
    shared = Summary(
        folded([placed("a", 0), placed("b", 5), placed("c", 5.2), cancelled("b", 6)]), CONFIG
    )
    assert (shared.orders, shared.purchase_days) == (2, 2)
    first = Summary(folded([placed("a", 0), placed("b", 5), cancelled("a", 6)]), CONFIG)
    assert (first.purchase_days, first.frequency) == (1, 0)


def test_a_cancellation_may_come_before_its_order():
    assert Summary(folded([cancelled("a", 1), placed("a", 0)]), CONFIG).orders == 0


def test_a_refund_adjusts_money_and_never_counts_as_a_purchase():
    summary = Summary(
        folded([placed("a", 0, "50"), placed("b", 9, "60"), refunded("r", 12, "60", order_id="b")]),
        CONFIG,
    )
    assert (summary.frequency, summary.last_day - summary.first_day) == (1, 9)
    assert summary.repeat_gross == 600_000
    assert (summary.gross, summary.refunded) == (1_100_000, 600_000)


def test_an_order_refunded_in_full_within_thirty_days_says_nothing_of_orders_to_come():
    """Nor does its day, unless another order was kept on it; part of a price is no return."""
    history = [
        placed("a", 0, "50"),
        placed("kept", 9, "70"),
        placed("b", 9, "60", cost_of_goods="20"),
        placed("c", 12, "900"),
        refunded("b1", 12, "35", order_id="b"),
        refunded("b2", 20, "25", order_id="b"),
        refunded("c1", 43, "900", order_id="c"),
        refunded("a1", 1, "49.99", order_id="a"),
    ]
    summary = Summary(folded(history), CONFIG)
    assert summary.returned == (0, 600_000, 0, 200_000)
    soon = Summary(folded([*history, refunded("c2", 41, "900", order_id="c")]), CONFIG)
    assert soon.returned == (1, 9_600_000, 9_000_000, 200_000)
    assert (soon.kept_days, soon.kept_gross) == (2, 1_200_000)
    assert (soon.purchase_days, soon.gross) == (3, 10_800_000)
    # The second refund of "c" is lost, and 70 % of "a" came back as goods.
    lost = 900 - 0.7 * 900 + 0.3 * 49.99
    assert soon.refund_loss(CONFIG) == pytest.approx(lost * 10_000, abs=2)


def test_a_credit_without_an_order_adjusts_money_too():
    summary = Summary(folded([placed("a", 0, "50"), refunded("r", 1, "20.5")]), CONFIG)
    assert (summary.orders, summary.refunded) == (1, 205_000)
    assert summary.margin(CONFIG) == 150_000 - 205_000


def test_refunds_of_a_cancelled_order_do_not_count_twice():
    summary = Summary(
        folded([placed("a", 0), refunded("r", 1, "40", order_id="a"), cancelled("a", 2)]), CONFIG
    )
    assert (summary.gross, summary.refunded) == (0, 0)


def test_a_later_revision_replaces_an_order_whichever_comes_first():
    first, second = placed("a", 0, "50", revision=1), placed("a", 0, "30", revision=2)
    for sequence in ([first, second], [second, first]):
        summary = Summary(folded(sequence), CONFIG)
        assert (summary.orders, summary.gross) == (1, 300_000)


def test_what_is_known_already_is_a_duplicate():
    state = folded([placed("a", 0), opened("t", 1), cancelled("x", 2), refunded("r", 3, "1")])
    for event in (placed("a", 0), opened("t", 1), cancelled("x", 2), refunded("r", 3, "1")):
        assert fold(state, event, CONFIG) is Effect.DUPLICATE


def test_the_cost_of_a_contact_is_as_told_or_by_minutes_or_by_channel():
    config = Economics(contact_costs={"phone": 8.0, "unknown": 4.0}, cost_of_a_minute=0.5)
    for sequence, cost in (
        ([opened("t", 0, "phone")], 80_000),
        ([opened("t", 0, "web")], 40_000),
        ([opened("t", 0, "phone"), resolved("t", 1, handling_minutes=10)], 50_000),
        ([opened("t", 0, "phone"), resolved("t", 1, cost="2.5", currency="USD")], 25_000),
        ([resolved("t", 1)], 40_000),
    ):
        assert Summary(folded(sequence, config), config).support_cost == cost


def test_days_are_those_of_the_shops_calendar():
    late_evening = [placed("a", 0.45), placed("b", 0.55)]
    assert Summary(folded(late_evening), CONFIG).purchase_days == 2
    berlin = Economics(timezone="Europe/Berlin")
    assert (
        Summary(folded([placed("a", 0.47), placed("b", 0.55)], berlin), berlin).purchase_days == 1
    )


def test_amounts_of_other_currencies_are_converted():
    config = Economics(exchange_rates={"EUR": "1.1"})
    state = folded([placed("a", 0, "10.00", currency="EUR")], config)
    assert Summary(state, config).gross == 110_000


def test_windows_end_with_the_day_asked_for_and_contain_each_other():
    history = [placed(f"o{n}", day) for n, day in enumerate((0, 364, 365, 400, 423, 430, 431))]
    today = CONFIG.day(milliseconds(430))
    windows = rolling_windows(folded(history), today, CONFIG)
    assert [windows[str(length)]["orders"] for length in WINDOWS] == [1, 2, 5, 5]
    assert windows["7"] == {"orders": 1, "revenue": 40.0, "margin": 12.0, "contacts": 0}


@given(st.lists(events(), max_size=20))
@settings(deadline=None)
def test_a_record_reads_back_as_it_was_written(sequence):
    record = CustomerRecord(
        folded(sequence, FEW), 3, 5, {"shop.orders/1": 7}, {"tier": "gold"}, 1.5
    )
    data = encode_record(record)
    assert decode_record(data) == record
    assert encode_record(decode_record(data)) == data


def test_a_record_of_a_newer_version_and_a_damaged_one_are_refused_in_words():
    data = encode_record(CustomerRecord())
    with pytest.raises(UnreadableRecord, match=r"of customer 'c1' .* newer version"):
        decode_record(bytes([SCHEMA_VERSION + 1]) + data[1:], b"c1")
    for damaged in (b"", data[:1], data[:-1], data + b"\xc1"):
        with pytest.raises(UnreadableRecord, match=r"of customer 'c1'.* changelog"):
            decode_record(damaged, b"c1")
    fuzz = random.Random(7)
    for _ in range(2_000):
        mutated = bytearray(encode_record(CustomerRecord(folded([placed("a", 0)]))))
        mutated[fuzz.randrange(1, len(mutated))] = fuzz.randrange(256)
        try:
            decode_record(bytes(mutated))
        except UnreadableRecord:
            continue
