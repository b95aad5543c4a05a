"""`clv evaluate`: on a file whose outcomes are counted by hand, its page, and CDNOW's figures."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from models.aggregate.record import CustomerRecord, customers, encode_record
from models.context import Context
from models.economics import Economics
from models.evaluation import Histories
from streams.batch import fold_events, fold_in_steps
from streams.datasets import DATASETS
from streams.evaluation import Events, States, evaluate, peer
from streams.files.outgoing import OutgoingEvent, cloud_event
from tests.test_models.populations import FIRST as COMPLAINTS_FROM
from tests.test_models.populations import complaining

from .commands import clv, refused

FIRST = date(2025, 1, 1)
SPLIT = date(2025, 6, 30)
LAST = date(2025, 9, 30)
ECONOMICS = Economics(currency="EUR")


def event(kind: str, day: date, customer: str, number: int, **data: Any) -> OutgoingEvent:
    moment = datetime.combine(day, time(12), UTC)
    topic = "identities" if kind.startswith("customer") else "orders"
    return cloud_event(
        topic, kind, source="/shop", event_id=f"{kind}-{number}", time=moment,
        data={**data, "customer_id": customer},
        customer_id=customer,
    )  # fmt: skip


def order(customer: str, day: date, number: int, total: str = "20.00") -> OutgoingEvent:
    placed_at = datetime.combine(day, time(12), UTC)
    return event(
        "order.placed", day, customer, number,
        order_id=str(number), placed_at=placed_at, currency="EUR", total=total,
    )  # fmt: skip


def shop() -> Iterator[tuple[str, date, str]]:
    """Orders of 400 customers who join in a quarter and may leave after each order."""
    rng = np.random.default_rng(4)
    for number in range(400):
        day = FIRST + timedelta(days=int(rng.integers(90)))
        gap, leaves = 1 / rng.gamma(1.0, 1 / 25), rng.beta(1.0, 2.5)
        worth = 1 / rng.gamma(4.0, 1 / 90)
        while day <= LAST:
            yield f"c{number}", day, f"{rng.gamma(4.0, worth / 4) + 1:.2f}"
            if rng.random() < leaves:
                break
            day += timedelta(days=1 + min(int(rng.exponential(gap)), 1_000))
    yield "c0", LAST, "10.00"


@pytest.fixture(scope="module")
def orders() -> list[tuple[str, date, str]]:
    return sorted(shop(), key=lambda each: each[1])


@pytest.fixture(scope="module")
def events(orders) -> list[OutgoingEvent]:
    return [order(who, day, n, total) for n, (who, day, total) in enumerate(orders)]


@pytest.fixture(scope="module")
def file(orders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "orders.csv"
    with path.open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(("customer_id", "date", "amount", "order_id"))
        rows.writerows((who, day, total, n) for n, (who, day, total) in enumerate(orders))
    return path


@pytest.fixture(scope="module")
def found(file: Path) -> dict[str, Any]:
    """The document, and the page beside it."""
    done = clv(
        "evaluate", file, "--currency", "EUR", "--split", SPLIT, "--split", "2025-05-31", "--json",
        "--html", file.with_suffix(".html"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "said": done.stderr}


class TestHistories:
    def test_purchases_and_money_are_counted_on_their_own_days(self):
        days = [FIRST + timedelta(days=n) for n in (0, 10, 10, 20, 30)]
        told = [order("anna", day, n, "10.00") for n, day in enumerate(days)]
        told += [
            event("order.cancelled", days[4], "anna", 7, order_id="3", cancelled_at=_at(days[4])),
            event(
                "order.refunded", days[4], "anna", 8,
                order_id="0", refund_id="r", currency="EUR", amount="4.00",
                refunded_at=_at(days[4]),
            ),
        ]  # fmt: skip
        result = fold_events(told, Context(ECONOMICS), _at(LAST))
        assert not result.dead_letters
        histories = Histories.of(
            ((key, record.aggregate) for key, record in customers(result.states)), ECONOMICS
        )
        numbers = histories.numbers([b"anna", b"nobody"])
        assert numbers.tolist() == [0, -1]
        split = FIRST.toordinal() + 5
        after = histories.outcomes(numbers[:1], split, split + 30)
        # The tenth and the thirtieth day; the order of the twentieth was cancelled.
        assert after.purchases.tolist() == [2]
        assert after.revenue.tolist() == [10 + 10 + 10 - 4]
        assert after.days_to_next.tolist() == [5]
        assert np.flatnonzero(after.by_day).tolist() == [4, 24]
        assert histories.revenue(numbers[:1], 0, split).tolist() == [10]
        later = histories.outcomes(numbers[:1], split + 25, split + 30)
        assert (later.purchases.tolist(), later.days_to_next.tolist()) == ([0], [np.inf])


def _at(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def test_folding_in_steps_gives_at_each_cut_what_folding_until_it_gives(events):
    cuts = [_at(FIRST + timedelta(days=n)) for n in (30, 31, 120)]
    context = Context(ECONOMICS)
    steps = fold_in_steps(reversed(events), context, cuts)
    for cut, result in zip(cuts, steps, strict=True):
        expected = fold_events(events, context, cut)
        assert _aggregates(result.states) == _aggregates(expected.states)
        assert result.accepted == expected.accepted
    assert result.left_out == expected.left_out > 0


def _aggregates(states: dict[bytes, bytes]) -> dict[bytes, Any]:
    return {key: record.aggregate for key, record in customers(states)}


@pytest.mark.heavy
class TestOutcomes:
    def test_they_are_those_counted_in_the_file(self, found, orders):
        late, early = found["splits"][1], found["splits"][0]
        assert (early["split"], late["split"], late["until"]) == (
            "2025-05-31", "2025-06-30", "2025-09-30",
        )  # fmt: skip
        known = {who for who, day, _ in orders if day <= SPLIT}
        once = Counter(who for who, day in {(w, d) for w, d, _ in orders} if day <= SPLIT)
        after = {(who, day) for who, day, _ in orders if day > SPLIT and who in known}
        spent = sum(float(total) for who, day, total in orders if day > SPLIT and who in known)
        assert late["customers"] == len(known)
        assert late["days"] == 92
        assert late["actual"]["purchases"] == len(after)
        assert late["actual"]["spend"] == pytest.approx(spent)
        single = [who for who in known if once[who] == 1]
        bought = Counter(who for who, _ in after)
        assert late["actual"]["one_time"] == pytest.approx(
            sum(bought[who] for who in single) / len(single)
        )
        again = {who for who, day in after if (day - SPLIT).days <= 90}
        assert [each["days"] for each in late["auc"]] == [90, 92]
        assert late["auc"][0]["bought"] == len(again)

    def test_weeks_groups_and_tenths_add_up_to_the_whole(self, found):
        for report in found["splits"]:
            ours = report["comparisons"][0]
            assert ours["name"] == report["model"] == "mbg-nbd"
            last = report["weeks"][-1]
            assert last["day"] == report["days"]
            assert last["actual"] == report["actual"]["purchases"]
            assert last["expected"] == pytest.approx(ours["purchases"], rel=1e-6)
            for groups in (report["by_frequency"], report["by_silence"]):
                assert sum(each["customers"] for each in groups) == report["customers"]
                for what, total in (("actual", last["actual"]), ("expected", ours["purchases"])):
                    by_head = sum(each["customers"] * each[what] for each in groups)
                    assert by_head == pytest.approx(total)
            assert sum(each["share"] for each in report["lift"]) == pytest.approx(1)
            heads = report["customers"] / 10
            expected = sum(each["expected"] * heads for each in report["lift"])
            assert expected == pytest.approx(ours["spend"])
            assert sum(report["pit"]) == pytest.approx(1)
            assert min(each["behind_best"] for each in report["log_scores"]) == 0
            assert {each["model"] for each in report["log_scores"]} >= {"mbg-nbd", "bg-nbd"}

    def test_lifetimes_stands_beside_ours(self, found):
        names = [each["name"] for each in found["splits"][0]["comparisons"]]
        assert peer.NAME in names
        theirs = found["splits"][0]["comparisons"][names.index(peer.NAME)]
        assert theirs["purchases"] > 0
        assert -1 <= theirs["gini"] <= 1

    def test_each_week_is_held_against_the_four_weeks_after_it(self, found, orders):
        forecasts = found["prequential"]["forecasts"]
        days = [date.fromisoformat(each["day"]) for each in forecasts]
        assert days[0] == date(2025, 5, 31)
        assert days == [days[0] + timedelta(weeks=n) for n in range(len(days))]
        assert days[-1] <= LAST - timedelta(days=28) < days[-1] + timedelta(weeks=1)
        bought = {(who, day) for who, day, _ in orders}
        joined: defaultdict[str, date] = defaultdict(lambda: date.max)
        for who, day in bought:
            joined[who] = min(joined[who], day)
        for day, each in zip(days, forecasts, strict=True):
            end = day + timedelta(days=28)
            assert each["actual"] == sum(
                day < bought_on <= end and joined[who] <= day for who, bought_on in bought
            )
            begin = day - timedelta(days=28)
            assert each["before"] == sum(
                begin < bought_on <= day and bought_on != joined[who] for who, bought_on in bought
            )
            assert each["error"] == pytest.approx(each["expected"] / each["actual"] - 1)

    def test_the_tables_show_the_same_numbers(self, file, found):
        done = clv("evaluate", file, "--currency", "EUR", "--split", SPLIT, "--no-prequential")
        assert done.returncode == 0, done.stderr
        late = found["splits"][1]
        assert f"{late['customers']:,} customers known on 2025-06-30" in done.stdout
        assert f"{late['comparisons'][0]['gini']:.3f}" in done.stdout
        assert "Refitted each week" not in done.stdout


@pytest.fixture(scope="module")
def text(found, file: Path) -> str:
    """The page that was written beside the document."""
    return file.with_suffix(".html").read_text(encoding="utf-8")


@pytest.mark.heavy
class TestPage:
    def test_it_is_well_formed_with_a_plot_for_each_subject(self, text, found):
        root = ET.fromstring(text)
        assert len(root.findall(".//svg")) == 4 * len(found["splits"]) + 1
        labels = [each.get("aria-label", "") for each in root.iter("svg")]
        for subject in ("Cumulative purchases", "by frequency", "each tenth of the customers"):
            assert sum(subject in label for label in labels) == len(found["splits"])
        [band] = root.iter("polygon")  # Of the weekly forecasts.
        for line in (*root.iter("polyline"), band):
            for point in line.get("points", "").split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= 480
                assert 0 <= y <= 270

    def test_it_says_in_words_what_came_of_each_split(self, text, found):
        for report in found["splits"]:
            ours, actual = report["comparisons"][0], report["actual"]
            assert (
                f"{report['customers']:,} customers, the {report['days']} days until "
                f"{report['until']}: {ours['purchases']:,.0f} purchases were expected and "
                f"{actual['purchases']:,.0f} came ({ours['purchases_error']:+.1%})"
            ) in text
            assert f"off by {ours['spend_error']:+.1%}" in text

    def test_it_refers_to_nothing_outside_and_runs_nothing(self, text):
        root = ET.fromstring(text)
        names = {name for each in root.iter() for name in each.attrib}
        assert not names & {"src", "href", "srcset", "data", "action"}
        assert not {"script", "link", "iframe", "object", "img"} & {
            each.tag for each in root.iter()
        }
        for word in ("http", "url(", "@import"):
            assert word not in text

    def test_it_follows_the_readers_colours_and_fits_a_phone(self, text):
        assert "prefers-color-scheme: dark" in text
        assert 'name="viewport" content="width=device-width' in text

    def test_the_name_of_a_file_is_text_and_not_markup(self, file, tmp_path):
        odd = tmp_path / "<b>&.csv"
        odd.write_bytes(file.read_bytes())
        page = tmp_path / "page.html"
        done = clv(
            "evaluate", odd, "--currency", "EUR", "--split", SPLIT, "--no-prequential",
            "--html", page, "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        heading = ET.fromstring(page.read_text()).find(".//h1")
        assert heading is not None
        assert heading.text == f"Held-out evaluation of {odd}"


@pytest.mark.heavy
def test_where_lifetimes_is_missing_the_command_says_so(file, monkeypatch):
    monkeypatch.setattr(peer, "lifetimes", lambda: None)
    done = clv("evaluate", file, "--currency", "EUR", "--split", SPLIT, "--no-prequential")
    assert done.returncode == 0, done.stderr
    assert "lifetimes is not installed" in done.stderr
    assert peer.NAME not in done.stdout


@pytest.mark.heavy
def test_customers_who_are_merged_after_the_split_are_left_out(events):
    at = SPLIT + timedelta(days=10)
    merge = event(
        "customer.merged", at, "c1", 1,
        merged_from="c2", merged_at=_at(at),
    )  # fmt: skip
    found = evaluate(
        Events([*events, merge]), ECONOMICS, [SPLIT.toordinal()], LAST.toordinal(), "mbg-nbd",
        prequential=False,
    )  # fmt: skip
    assert not found.result.dead_letters
    assert found.left_out == 1
    assert found.splits[0].customers == 399


@pytest.mark.heavy
def test_the_states_of_today_say_what_the_events_said(events):
    later = [
        event("order.cancelled", LAST, "c1", 1, order_id=str(number), cancelled_at=_at(LAST))
        for number in (5, 900_000)
    ] + [
        event(
            "order.refunded", SPLIT - timedelta(days=3), "c2", 2,
            refund_id="r", currency="EUR", amount="4.00", refunded_at=_at(SPLIT),
        )
    ]  # fmt: skip
    told = [*events, *later]
    folded = fold_events(told, Context(ECONOMICS), _at(LAST) + timedelta(days=1))
    days = [(SPLIT - timedelta(days=20)).toordinal(), SPLIT.toordinal()]
    by_events, by_states = (
        evaluate(source, ECONOMICS, days, LAST.toordinal(), "auto")
        for source in (Events(told), States(folded.states))
    )
    assert by_states.splits == by_events.splits
    assert by_states.prequential == by_events.prequential
    assert by_states.notes == by_events.notes
    assert [note for note in by_states.notes if "held-out log score per 1,000" in note]
    assert by_states.left_out == by_events.left_out == 0


def test_customers_of_whom_not_every_order_is_remembered_are_left_out(events):
    folded = fold_events(events, Context(Economics(currency="EUR", remembered=8)), _at(LAST))
    compacted = {
        key for key, record in customers(folded.states) if record.aggregate.compacted is not None
    }
    assert compacted
    told = States(folded.states)
    assert told.left_out == len(compacted)
    (result,) = told.steps(ECONOMICS, [_at(LAST)])
    assert result.states.keys() == folded.states.keys() - compacted


@pytest.mark.heavy
def test_complaints_that_count_are_held_against_the_model_without_them():
    states = {
        str(number).encode(): encode_record(CustomerRecord(state))
        for number, state in enumerate(complaining(6.0, 1_500, 240))
    }
    days = COMPLAINTS_FROM + 190, COMPLAINTS_FROM + 240
    found = evaluate(States(states), Economics(), [days[0]], days[1], "mbg-nbd")
    assert any("complaints count" in note for note in found.notes)
    (report,) = found.splits
    scores = {each.model: each.nats for each in report.log_scores}
    assert scores["mbg-nbd"] > scores["mbg-nbd without complaints"] + 5
    week = found.prequential.forecasts[0]
    assert week.low < week.actual < week.high


def test_an_order_dated_in_the_future_does_not_lengthen_the_holdout(orders, tmp_path):
    path = tmp_path / "orders.csv"
    with path.open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(("customer_id", "date", "amount", "order_id"))
        rows.writerows((who, day, total, n) for n, (who, day, total) in enumerate(orders))
        rows.writerow(("c0", "2999-01-01", "1.00", "wrong"))
    done = clv(
        "evaluate",
        path,
        "--currency",
        "EUR",
        "--split",
        SPLIT,
        "--no-prequential",
        "--json",
        "--keep-going",
    )
    assert done.returncode == 0, done.stderr
    assert f"1 of {len(orders) + 1} events were refused" in done.stderr
    assert json.loads(done.stdout)["splits"][0]["until"] == "2025-09-30"


class TestRefusals:
    def test_a_split_after_the_last_event(self, file):
        said = refused("evaluate", file, "--currency", "EUR", "--split", LAST)
        assert "--split is '2025-09-30', and no event is later" in said

    def test_a_split_that_is_no_date(self, file):
        assert "--split is 'June': write a date" in refused(
            "evaluate", file, "--currency", "EUR", "--split", "June"
        )

    def test_a_split_before_the_first_order(self, file):
        said = refused("evaluate", file, "--currency", "EUR", "--split", "2024-12-31")
        assert "nothing can be expected as of 2024-12-31: MBG/NBD: no customers to fit on" in said

    def test_no_split(self, file):
        assert "--split" in refused("evaluate", file, status=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "purchases_error", "one_time", "least_gini", "least_auc"),
    [
        ("1997-07-01", (-0.22, -0.18), 0.331, 0.655, 0.70),
        ("1997-09-30", (-0.21, -0.17), 0.180, 0.705, 0.745),
        ("1997-12-30", (-0.08, -0.03), 0.101, 0.740, 0.785),
    ],
)
def test_the_key_figures_of_cdnow(split, purchases_error, one_time, least_gini, least_auc):
    data = DATASETS["cdnow"]
    last = data.last.date().toordinal()
    found = evaluate(
        Events(data.events()), Economics(currency=data.currency),
        [date.fromisoformat(split).toordinal()], last, "mbg-nbd", prequential=False,
    ).splits[0]  # fmt: skip
    by_name = {each.name: each for each in found.comparisons}
    ours = by_name["mbg-nbd"]
    assert found.customers == 23_570
    assert purchases_error[0] < ours.purchases_error < purchases_error[1]
    assert ours.one_time == pytest.approx(one_time, abs=0.005)
    assert ours.gini > least_gini
    assert ours.gini > by_name["spend so far"].gini
    assert ours.gini > by_name[peer.NAME].gini
    assert found.auc[-1].p_purchase > least_auc
    assert found.auc[-1].p_purchase > found.auc[-1].p_alive
    everybody, _, heavy, _ = found.coverage
    assert everybody.pit == pytest.approx(0.8, abs=0.03)
    assert heavy.pit == pytest.approx(0.8, abs=0.05)
