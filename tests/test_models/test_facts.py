"""The state holds what was said; what a setting makes of it is computed when it is valued."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

import msgspec
import pytest

from models.acceptance import check_acceptable
from models.aggregate.fold import Effect, fold
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.aggregate.windows import rolling_windows
from models.calendar import milliseconds
from models.contracts import Reason, Refused
from models.contracts.decode import decode
from models.economics import MONEY_SCALE, Economics, MissingRate
from models.rates import DailyRates, InvalidRates, read_ecb

from .reckoner import Event, Shop, ToldTwice, reckon

ZONES = (
    "UTC", "Europe/Berlin", "America/St_Johns", "America/Santiago", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Pacific/Apia", "America/New_York", "Asia/Tokyo", "Africa/Casablanca",
    "Pacific/Chatham", "Asia/Tehran", "America/Sao_Paulo", "Pacific/Kiritimati", "Asia/Kolkata",
    "Atlantic/Azores",
)  # fmt: skip
CURRENCIES = ("EUR", "USD", "GBP", "JPY", "SEK")
FIRST, DAYS = date(2010, 10, 1), 420
NOW = milliseconds(datetime(2026, 1, 1, tzinfo=UTC))


def random_shop(random: Random) -> Shop:
    rates: dict[str, dict[date, Decimal]] = {}
    for code, typical in (("USD", 1.1), ("GBP", 0.9), ("JPY", 130), ("SEK", 11)):
        rates[code] = {
            FIRST + timedelta(days=n): Decimal(f"{typical * random.uniform(0.8, 1.2):.4f}")
            for n in range(-2, DAYS + 40)
            if n == -2 or random.random() < 0.6 or n % 5 == 0
        }
    fixed = {"SEK": Decimal("0.5")} if random.random() < 0.3 else {}
    return Shop(
        random.choice([code for code in CURRENCIES if code not in fixed]),
        random.choice(ZONES),
        Decimal(random.choice(["0.3", "0.45", "0"])),
        Decimal(random.choice(["0", "0.25"])),
        Decimal(random.choice(["0.6", "1.2"])),
        frozenset(random.sample(["complaint", "broken", "late"], 2)),
        fixed,
        rates,
    )


def economics_of(shop: Shop) -> Economics:
    days = sorted({day for rates in shop.daily.values() for day in rates})
    return Economics(
        currency=shop.currency,
        timezone=shop.zone,
        margin=float(shop.margin),
        lost_goods=float(shop.lost_goods),
        cost_of_a_minute=float(shop.cost_of_a_minute),
        complaint_topics=shop.complaint_topics,
        exchange_rates=shop.fixed,
        daily_rates=DailyRates(
            "EUR",
            tuple(day.toordinal() for day in days),
            {code: tuple(rates.get(day) for day in days) for code, rates in shop.daily.items()},
        ),
    )


def random_time(random: Random) -> str:
    """Often about midnight somewhere, where clocks change, and with fractions of a second."""
    day = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
    at = day + timedelta(days=random.randrange(DAYS))
    if random.random() < 0.3:
        at = datetime(2010, 11, 7, 2, tzinfo=UTC) + timedelta(minutes=random.randrange(120))
    at += timedelta(minutes=random.choice([0, 30, 345, 1439]) * random.randrange(2))
    at += timedelta(seconds=random.randrange(60), microseconds=random.randrange(10**6))
    if random.random() < 0.2:
        at = at.replace(second=59, microsecond=999_999)
    zone = timedelta(minutes=random.choice([0, 0, 60, -210, 345]))
    offset = datetime.min.replace(tzinfo=UTC) if not zone else None
    shown = (at + zone).replace(tzinfo=None).isoformat(timespec="microseconds")
    if offset is not None:
        return f"{shown}Z"
    minutes = int(zone.total_seconds() // 60)
    return f"{shown}{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def random_event(random: Random) -> Event:
    money = f"{random.randrange(2_000_000) / 10_000:.{random.choice([0, 2, 4])}f}"
    at, order = random_time(random), f"o{random.randrange(4)}"
    currency = random.choice(CURRENCIES)
    kind = random.choice(["order.placed"] * 4 + ["order.cancelled", "order.refunded"] * 2
                         + ["ticket.opened", "ticket.resolved", "customer.acquired"])  # fmt: skip
    event: Event = {"type": kind, "data": {"customer_id": "c1"}}
    if random.random() < 0.6:
        event["time"] = random_time(random)
    data = event["data"]
    if kind == "order.placed":
        data |= {"order_id": order, "placed_at": at, "currency": currency, "total": money}
        if random.random() < 0.4:
            data["cost_of_goods"] = f"{float(money) * random.random():.2f}"
        if random.random() < 0.3:
            data["revision"] = random.randrange(3)
    elif kind == "order.cancelled":
        data |= {"order_id": order, "cancelled_at": at}
    elif kind == "order.refunded":
        data |= {"refund_id": f"r{random.randrange(3)}", "refunded_at": at, "amount": money}
        data["currency"] = currency
        if random.random() < 0.7:
            data["order_id"] = order
        if random.random() < 0.4:
            data["cost_recovered"] = f"{float(money) * random.random():.2f}"
    elif kind == "ticket.opened":
        data |= {"ticket_id": f"t{random.randrange(3)}", "opened_at": at, "channel": "phone"}
        data["complaint"] = random.random() < 0.2
        if random.random() < 0.5:
            data["topic"] = random.choice(["complaint", "broken", "late", "thanks"])
    elif kind == "ticket.resolved":
        data |= {"ticket_id": f"t{random.randrange(3)}", "resolved_at": at}
        if random.random() < 0.5:
            data["handling_minutes"] = random.randrange(90)
        if random.random() < 0.3:
            data |= {"cost": money, "currency": currency}
    else:
        data |= {"acquired_at": at, "cost": money, "currency": currency}
    return event


def folded(history: list[Event], *settings: Economics) -> Aggregate:
    """Fold a history, each part of it under the next settings."""
    state = Aggregate()
    for number, each in enumerate(history):
        config = settings[number * len(settings) // len(history)]
        value = msgspec.json.encode(
            {"specversion": "1.0", "id": str(number), "source": "/shop", **each}
        )
        fold(state, decode(b"c1", value, ()), config)
    return state


def check(random: Random) -> bool:
    """Compare one random history with the reckoner; return whether it could be reckoned."""
    shops = [random_shop(random) for _ in range(3)]
    configs = [economics_of(shop) for shop in shops]
    history = [random_event(random) for _ in range(random.randint(1, 14))]
    shop, config = shops[-1], configs[-1]
    today = FIRST + timedelta(days=random.randrange(DAYS))
    try:
        expected = reckon(history, shop, today)
    except ToldTwice:
        return False
    state = folded(history, *configs)
    again = [*history, *random.sample(history, len(history) // 2)]
    random.shuffle(again)
    whole = msgspec.msgpack.encode(state)
    assert msgspec.msgpack.encode(folded(again, config)) == whole
    summary = Summary(state, config)
    days = sorted(expected.days)
    assert (summary.orders, summary.refunds) == (expected.orders, expected.refunds)
    assert summary.purchase_days == len(days)
    if days:
        assert summary.first_day == days[0].toordinal()
        assert summary.last_day == days[-1].toordinal()
    assert (summary.contacts, summary.complaints) == (expected.contacts, expected.complaints)
    near = len(history) * 3  # Each amount is rounded to a ten-thousandth of the currency.
    for name, total in (
        ("gross", expected.gross),
        ("refunded", expected.refunded),
        ("support_cost", expected.support),
        ("acquisition_cost", expected.acquisition),
    ):
        assert abs(getattr(summary, name) - total * MONEY_SCALE) <= near, name
    assert abs(summary.margin(config) - expected.margin * MONEY_SCALE) <= near
    windows = rolling_windows(state, today.toordinal(), config)
    for length, (orders, revenue, margin, contacts) in expected.windows.items():
        window = windows[str(length)]
        assert (window["orders"], window["contacts"]) == (orders, contacts)
        assert window["revenue"] == pytest.approx(float(revenue), abs=near / MONEY_SCALE)
        assert window["margin"] == pytest.approx(float(margin), abs=near / MONEY_SCALE)
    return True


def check_many(seeds: range) -> None:
    reckoned = 0
    for seed in seeds:
        try:
            reckoned += check(Random(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert reckoned > 0.9 * len(seeds)


def test_random_histories_under_any_settings_come_to_what_is_reckoned() -> None:
    check_many(range(400))


@pytest.mark.slow
def test_five_thousand_more_histories_come_to_what_is_reckoned() -> None:
    check_many(range(400, 5_400))


USD = Economics()


def one(*history: Event) -> Aggregate:
    return folded(list(history), USD)


def bought(order: str, at: str, total: str = "40.00", *, said: str = "", **more: object) -> Event:
    data = {
        "customer_id": "c1", "order_id": order, "placed_at": at, "currency": "USD", "total": total,
        **more,
    }  # fmt: skip
    return {"type": "order.placed", **({"time": said} if said else {}), "data": data}


def undone(order: str, at: str) -> Event:
    data = {"customer_id": "c1", "order_id": order, "cancelled_at": at}
    return {"type": "order.cancelled", "data": data}


def given_back(refund: str, order: str | None, amount: str, **more: object) -> Event:
    data = {
        "customer_id": "c1", "refund_id": refund, "amount": amount, "currency": "USD",
        "refunded_at": "2026-02-01T00:00:00Z", **more,
    }  # fmt: skip
    return {"type": "order.refunded", "data": data | ({"order_id": order} if order else {})}


def test_where_clocks_go_back_over_midnight_a_later_order_lies_on_an_earlier_day() -> None:
    state = one(bought("a", "2010-11-07T02:30:30Z"), bought("b", "2010-11-07T03:00:00Z"))
    summary = Summary(state, Economics(timezone="America/St_Johns"))
    assert (summary.purchase_days, summary.frequency) == (2, 1)
    assert summary.last_day - summary.first_day == 1


def test_the_last_microsecond_of_a_day_belongs_to_it() -> None:
    state = one(bought("a", "2026-01-01T23:59:59.999999Z"), bought("b", "2026-01-01T23:59:60Z"))
    assert Summary(state, USD).purchase_days == 1
    assert Summary(state, USD).last_day == date(2026, 1, 1).toordinal()


def test_another_reporting_currency_converts_and_never_relabels() -> None:
    state = one(bought("a", "2026-01-01T00:00:00Z", "100.00"))
    with pytest.raises(MissingRate, match="an amount in USD of 2026-01-01"):
        Summary(state, Economics(currency="JPY"))
    yen = Economics(currency="JPY", exchange_rates={"USD": Decimal(150)})
    assert Summary(state, yen).gross == 15_000 * MONEY_SCALE


@pytest.mark.parametrize("rate", ["1.05", "1.10", "1.20"])
def test_the_same_order_sent_again_is_a_duplicate_whatever_the_rate_is_now(rate: str) -> None:
    before = Economics(exchange_rates={"EUR": Decimal("1.10")})
    order = decode(b"c1", event_json(bought("a", "2026-01-01T00:00:00Z", currency="EUR")), ())
    state = Aggregate()
    assert fold(state, order, before) is Effect.APPENDED
    assert fold(state, order, Economics(exchange_rates={"EUR": Decimal(rate)})) is Effect.DUPLICATE


def event_json(event: Event) -> bytes:
    return msgspec.json.encode({"specversion": "1.0", "id": "1", "source": "/shop", **event})


def test_without_a_revision_the_later_word_wins_also_when_it_is_less() -> None:
    first = bought("a", "2026-01-01T00:00:00Z", "100.00", said="2026-01-01T00:00:01Z")
    edited = bought("a", "2026-01-01T00:00:00Z", "60.00", said="2026-01-02T09:00:00Z")
    for history in ((first, edited), (edited, first)):
        assert Summary(one(*history), USD).gross == 60 * MONEY_SCALE


def test_a_later_revision_outranks_a_later_word() -> None:
    third = bought("a", "2026-01-01T00:00:00Z", "70.00", said="2026-01-02T00:00:00Z", revision=3)
    second = bought("a", "2026-01-01T00:00:00Z", "90.00", said="2026-01-09T00:00:00Z", revision=2)
    assert Summary(one(third, second), USD).gross == 70 * MONEY_SCALE


@pytest.mark.parametrize(("said", "orders"), [("2026-01-01T11:00:00Z", 1), ("", 0)])
def test_an_order_placed_again_by_a_later_word_than_its_cancellation_counts(
    said: str, orders: int
) -> None:
    """A payment that timed out, and came after all."""
    first = bought("a", "2026-01-01T10:00:00Z")
    paid = bought("a", "2026-01-01T10:00:00Z", said=said)
    history = [first, undone("a", "2026-01-01T10:30:00Z"), paid]
    for order in (history, history[::-1]):
        assert Summary(one(*order), USD).orders == orders


def test_an_order_moves_from_a_guest_to_an_account_and_counts_once() -> None:
    """The guest's is cancelled, and the account's is placed: as docs/contracts.md says."""
    guest = one(bought("a", "2026-01-01T10:00:00Z"), undone("a", "2026-01-05T10:00:00Z"))
    account = one(bought("a", "2026-01-01T10:00:00Z", said="2026-01-05T10:00:00Z"))
    assert (Summary(guest, USD).orders, Summary(account, USD).orders) == (0, 1)


@pytest.mark.parametrize(
    ("order", "refund", "lost", "earned"),
    [
        ({}, {}, 0, 0),
        ({}, {}, 0.25, -7),
        ({"cost_of_goods": "10.00"}, {}, 0, 0),
        ({"cost_of_goods": "10.00"}, {"amount": "20.00"}, 0, 15),
        ({"cost_of_goods": "10.00"}, {"cost_recovered": "0"}, 0, -10),
        ({"cost_of_goods": "10.00"}, {"cost_recovered": "400.00"}, 0, 0),
        ({}, {"cost_recovered": "400.00"}, 0, 12),
    ],
)
def test_what_a_refund_leaves_of_an_order_of_40(
    order: Event, refund: Event, lost: float, earned: float
) -> None:
    """Returned goods come back, unless the refund says otherwise; never more than there were."""
    sold = bought("a", "2026-01-01T00:00:00Z", **order)
    back = given_back("r", "a", **{"amount": "40.00", **refund})
    config = Economics(lost_goods=lost)
    for history in ((sold, back), (back, sold)):
        assert Summary(one(*history), config).margin(config) == earned * MONEY_SCALE


def test_a_withdrawn_currency_is_accepted_for_the_time_in_which_it_was_in_force() -> None:
    config = Economics(currency="EUR", exchange_rates={"HRK": Decimal("0.1327")})
    for at, accepted in (("2022-12-31T12:00:00Z", True), ("2024-01-01T12:00:00Z", False)):
        event = decode(b"c1", event_json(bought("a", at, currency="HRK")), ())
        if accepted:
            assert check_acceptable(event, "c1", NOW, NOW, config)
        else:
            with pytest.raises(Refused, match="withdrawn") as refused:
                check_acceptable(event, "c1", NOW, NOW, config)
            assert refused.value.reason is Reason.INVALID_FIELD


def test_an_order_of_fourteen_digits_is_accepted() -> None:
    state = one(bought("a", "2026-01-01T00:00:00Z", "99999999999999.9999"))
    assert Summary(state, USD).gross == 10**18 - 1


ECB = """Date,USD,JPY,CYP,
2026-01-05,1.1700,183.10,N/A,
2026-01-02,1.1750,184.00,N/A,
2007-12-31,1.4721,164.93,0.585274,
"""


def test_the_rate_is_that_of_the_orders_day_or_the_last_one_before() -> None:
    rates = read_ecb(ECB.splitlines())
    config = Economics(currency="EUR", daily_rates=rates)
    for at, gross in (
        ("2026-01-05T08:00:00Z", 117 / 1.17),
        ("2026-01-04T08:00:00Z", 117 / 1.175),
        ("2007-12-31T08:00:00Z", 117 / 1.4721),
    ):
        state = one(bought("a", at, "117.00"))
        assert Summary(state, config).gross == pytest.approx(gross * MONEY_SCALE, abs=1)
    pound = decode(b"c1", event_json(bought("a", "2007-12-31T08:00:00Z", currency="CYP")), ())
    assert check_acceptable(pound, "c1", NOW, NOW, config)


@pytest.mark.parametrize("at", ["2025-12-31T00:00:00Z", "2026-01-13T00:00:00Z"])
def test_a_day_without_a_rate_is_refused_until_there_is_one(at: str) -> None:
    config = Economics(currency="EUR", daily_rates=read_ecb(ECB.splitlines()))
    event = decode(b"c1", event_json(bought("a", at)), ())
    with pytest.raises(Refused, match=f"no rate to EUR on {at[:10]}") as refused:
        check_acceptable(
            event, "c1", milliseconds(datetime(2026, 6, 1, tzinfo=UTC)), NOW + 10**11, config
        )
    assert refused.value.reason is Reason.NO_EXCHANGE_RATE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 of the rates begins with"),
        ("Date,USD\n2026-01-02", "line 2 of the rates has 1 cells, not 2"),
        ("Date,USD\n2026-01-02,x", "line 2"),
        ("Date,USD\n2026-01-02,-1", "line 2 of the rates: -1 is not a rate"),
        ("Date,XYZ\n2026-01-02,1", "'XYZ', not an ISO 4217"),
        ("Date,USD\n02.01.2026,1", "line 2"),
    ],
)
def test_a_bad_table_of_rates_is_refused_by_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidRates, match=said):
        read_ecb(text.splitlines())


def test_changing_a_setting_between_two_events_is_as_having_it_from_the_beginning() -> None:
    """Also when the oldest entries are compacted, but for the time zone and rates by day."""
    history = [bought(f"o{n}", f"2026-01-{n + 1:02}T10:00:00Z", f"{n}.50") for n in range(20)]
    history += [given_back(f"r{n}", f"o{n}", "0.25") for n in range(5)]
    history += [
        {"type": "ticket.opened", "data": {
            "customer_id": "c1", "ticket_id": f"t{n}", "channel": "phone",
            "opened_at": f"2026-03-{n + 1:02}T10:00:00Z",
        }} for n in range(9)
    ]  # fmt: skip
    few = Economics(remembered=4)
    other = few.model_copy(
        update={
            "currency": "EUR", "exchange_rates": {"USD": Decimal("0.9")}, "margin": 0.5,
            "lost_goods": 0.5, "contact_costs": {"phone": 10.0},
        }
    )  # fmt: skip
    changed, always = folded(history, few, other), folded(history, other)
    assert msgspec.msgpack.encode(changed) == msgspec.msgpack.encode(always)
    everything = folded(history, other.model_copy(update={"remembered": 256}))
    for state in (changed, everything):
        summary = Summary(state, other)
        assert summary.gross == sum(9 * (n * 10_000 + 5_000) // 10 for n in range(20))
        assert summary.support_cost == 90 * MONEY_SCALE
        assert summary.margin(other) == pytest.approx(summary.gross / 2 - 5 * 0.225 * 7_500, abs=5)


def test_a_refund_counts_at_its_orders_cost_also_when_either_is_compacted() -> None:
    history = [bought("a", "2026-01-01T10:00:00Z", cost_of_goods="10.00")]
    history += [given_back("ra", "a", "20.00", refunded_at="2026-01-01T11:00:00Z")]
    for n in range(2, 9):
        history.append(bought(f"o{n}", f"2026-01-{n:02}T10:00:00Z", cost_of_goods="30.00"))
        summaries = [Summary(folded(history, config), config) for config in FEW_TO_MANY]
        assert len({(each.margin(USD), each.recovered) for each in summaries}) == 1
    for n in range(2, 6):
        history.append(
            given_back(f"r{n}", f"o{n}", "4.00", refunded_at=f"2026-02-{n:02}T11:00:00Z")
        )
    whole = Summary(folded(history, USD), USD)
    assert whole.recovered == (5 + 4 * 3) * MONEY_SCALE
    assert Summary(folded(history, FEW_TO_MANY[-1]), USD).recovered == whole.recovered


def test_an_order_whose_void_refunds_are_forgotten_is_not_reinstated() -> None:
    """Nobody could tell how much of it was refunded."""
    few = Economics(remembered=2)
    history = [bought("a", "2026-01-01T10:00:00Z"), undone("a", "2026-01-03T10:00:00Z")]
    history += [
        given_back(f"r{n}", "a", "4.00", refunded_at=f"2026-01-02T1{n}:00:00Z") for n in range(3)
    ]
    again = bought("a", "2026-01-01T10:00:00Z", said="2026-01-04T10:00:00Z")
    event = decode(b"c1", event_json(again), ())
    assert fold(folded(history, few), event, few) is Effect.TOO_OLD
    state = folded(history, USD)
    assert fold(state, event, USD) is Effect.APPLIED
    assert (Summary(state, USD).orders, Summary(state, USD).refunds) == (1, 3)


FEW_TO_MANY = [Economics(remembered=few) for few in (2, 4, 7)]
