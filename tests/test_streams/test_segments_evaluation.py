"""The default segments on real shops: who is active comes back, and who is lost does not."""

import csv
import gzip
import json
from collections import defaultdict
from datetime import date, datetime

import pytest

from models.context import Context
from models.economics import Economics
from models.segments import DEFAULT_RULES
from streams.batch import score_events
from streams.datasets import DATASETS
from streams.datasets.dataset import DatasetMissingError
from streams.evaluation.segments import evaluate_segments
from tools.segments import DOCUMENT, measured_version, parts_of, rules_in_words

from .commands import clv, refused

DATES = {
    # The data of CDNOW end on 1998-06-30, those of Online Retail on 2011-12-09.
    "cdnow": ("1997-04-30", "1997-06-30", "1997-08-31", "1997-10-31"),
    "online-retail": ("2011-04-01", "2011-06-01", "2011-08-01", "2011-09-01"),
}
SCALE = ("active", "needs attention", "at risk", "lost")


def events_of(name, *, sample=False):
    try:
        events = list(DATASETS[name].events())
    except DatasetMissingError as missing:
        pytest.skip(str(missing))
    if not sample:
        return events
    with gzip.open(DATASETS[name].path(), "rt") as file:
        chosen = {
            row["customer_id"].encode() for row in csv.DictReader(file) if row["in_sample"] == "1"
        }
    return [event for event in events if event.key in chosen]


def report_of(name, events):
    dataset = DATASETS[name]
    return evaluate_segments(
        events,
        Economics(currency=dataset.currency),
        DEFAULT_RULES,
        (dataset.first.date().toordinal(), dataset.last.date().toordinal()),
        [date.fromisoformat(day).toordinal() for day in DATES[name]],
    )


def check(report, least):
    """Hold the promises; least: customers of whom a share is no chance."""
    lifecycle = report.of("lifecycle")
    assert len(lifecycle.looks) == 4
    for look in lifecycle.looks:
        shares = {
            name: look.of(name).again[-1].share
            for name in SCALE
            if look.of(name).customers >= least
        }
        in_order = list(shares.values())
        assert in_order == sorted(in_order, reverse=True), (look.day, shares)
        assert len(set(in_order)) == len(in_order) > 1
        assert shares["active"] >= 0.70, (look.day, shares)
        assert shares.get("lost", 0.0) <= 0.25, (look.day, shares)
    assert lifecycle.back_and_forth < 60
    assert report.of("tier").back_and_forth < 100
    assert report.of("best-ever").back_and_forth < 60
    assert report.of("behaviour").back_and_forth < 60


@pytest.mark.heavy
@pytest.mark.parametrize("name", DATES)
def test_who_is_active_comes_back_and_who_is_lost_does_not(name):
    """On the papers' sample of CDNOW, a tenth of it, and all of Online Retail."""
    check(report_of(name, events_of(name, sample=name == "cdnow")), least=40)


@pytest.mark.slow
def test_so_it_is_on_all_of_cdnow():
    check(report_of("cdnow", events_of("cdnow")), least=40)


@pytest.mark.heavy
def test_gift_givers_of_online_retail_are_found_and_nobody_else_is_taken_for_one():
    """A gift giver bought on days of November and December only, and in two years."""
    events = events_of("online-retail")
    bought = defaultdict(set)
    with gzip.open(DATASETS["online-retail"].path(), "rt") as file:
        for row in csv.DictReader(file):
            if row["customer_id"] and not row["amount"].startswith("-"):
                bought[row["customer_id"]].add(datetime.fromisoformat(row["time"]).date())
    givers = {
        customer
        for customer, days in bought.items()
        if all(day.month >= 11 for day in days) and len({day.year for day in days}) >= 2
    }
    assert len(givers) == 42
    found = seasonal_customers(events)
    assert len(found & givers) >= 40
    assert len(found & givers) >= 0.85 * len(found)


def seasonal_customers(events):
    """Whom the engine itself calls seasonal after the last event."""
    dataset = DATASETS["online-retail"]
    context = Context(Economics(currency=dataset.currency))
    updates = score_events(events, context, dataset.as_of).updates
    return {each.customer_id for each in updates if ("behaviour", "seasonal") in each.segments}


RULES = """
[[dimensions]]
name = "silence"

[[dimensions.rules]]
id = "lately"
segment = "lately"
all = [{ feature = "days_since_last_order", is = "at most", bound = 20 }]

[[dimensions.rules]]
id = "long-ago"
segment = "long ago"
"""


@pytest.fixture
def shop(tmp_path):
    """Anna buys on 1 January and 10 February 2025, Ben on 2 January and 20 March."""
    orders = tmp_path / "orders.csv"
    rows = ("anna,2025-01-01", "ben,2025-01-02", "anna,2025-02-10", "ben,2025-03-20")
    lines = [f"{row},10.00,{number}" for number, row in enumerate(rows)]
    orders.write_text("\n".join(["customer_id,date,amount,order_id", *lines, ""]))
    (tmp_path / "clv.toml").write_text(RULES)
    return tmp_path


def test_the_command_follows_a_file_under_the_rules_of_a_shop(shop):
    arguments = ("segments", "evaluate", shop / "orders.csv", "--currency", "EUR")
    result = clv(*arguments, "--json", CLV_CONFIG=str(shop / "clv.toml"))
    assert result.returncode == 0, result.stderr
    [course] = json.loads(result.stdout)["dimensions"]
    looks = {
        look["day"]: {each["segment"]: each for each in look["members"]} for look in course["looks"]
    }
    # Each month's last week ends on a Tuesday; the last look is of the last day.
    assert list(looks) == ["2025-01-28", "2025-02-25", "2025-03-20"]
    january = looks["2025-01-28"]
    assert (january["lately"]["customers"], january["long ago"]["customers"]) == (0, 2)
    assert january["long ago"]["again"] == [
        {"days": 51, "share": 1.0}, {"days": 51, "share": 1.0},
    ]  # fmt: skip
    february = looks["2025-02-25"]
    assert (february["lately"]["customers"], february["long ago"]["customers"]) == (1, 1)
    # Ben buys again, and Anna does not.
    assert [february[name]["again"][0]["share"] for name in ("lately", "long ago")] == [0.0, 1.0]
    assert looks["2025-03-20"]["lately"]["customers"] == 1
    table = clv(*arguments, CLV_CONFIG=str(shop / "clv.toml"))
    assert "long ago" in table.stdout


def test_the_command_says_what_it_cannot_follow(shop):
    orders = shop / "orders.csv"
    message = refused("segments", "evaluate", orders, "--currency", "EUR", "--dimension", "mood")
    assert "there is no dimension 'mood'; there are lifecycle, tier, best-ever" in message
    few = shop / "few.csv"
    few.write_text("\n".join(orders.read_text().splitlines()[:3]) + "\n")
    message = refused("segments", "evaluate", few, "--currency", "EUR")
    assert "its events are of 2 days, and more than 7 are needed" in message


def test_the_document_has_the_rules_of_this_program():
    parts = parts_of(DOCUMENT.read_text(encoding="utf-8"))
    for name, table in rules_in_words().items():
        assert parts[name] == table, f"{name}: run `python -m tools.segments`"


def test_the_tables_of_the_document_were_measured_with_these_rules():
    """Rules that change need new tables: `python -m tools.segments --measure`."""
    parts = parts_of(DOCUMENT.read_text(encoding="utf-8"))
    assert parts["version"] == measured_version()
    assert all(parts.values())
