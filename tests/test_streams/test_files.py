import csv
import gzip
import importlib
import io
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contracts import Refused, decode
from models.events.fields import money_units
from streams.files.errors import InputFileError
from streams.files.outgoing import OutgoingEvent
from streams.files.reader import read_orders
from streams.files.rows import count_rows
from streams.files.values import parse_amount, parse_time

CSV = """customer_id,date,amount,order_id
c1,2026-01-03,40.00,1001
c2,2026-01-04T10:30:00+02:00,0,1002
c1,2026-01-05,-12.50,C1003
"""

RATED = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/desk",
    "type": "ticket.rated",
    "data": {
        "ticket_id": "t1",
        "rated_at": "2026-01-03T10:00:00Z",
        "score": 4,
        "scale": {"min": 1, "max": 5},
    },
}


def written(path, text):
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def envelopes(events):
    return [json.loads(event.value) for event in events]


def said(events):
    """The events, whatever their line."""
    return [event._replace(line=None) for event in events]


def assert_accepted(event: OutgoingEvent):
    accepted = decode(event.key, event.value, event.headers)
    assert accepted.data.occurred_at == event.time
    return accepted


class TestFormats:
    @pytest.mark.parametrize("name", ["o.csv", "o.csv.gz", "o.CSV"])
    def test_csv(self, tmp_path, name):
        events = list(read_orders(written(tmp_path / name, CSV), currency="EUR"))
        assert [event.key for event in events] == [b"c1", b"c2", b"c1"]
        order, zero, credit = map(assert_accepted, events)
        assert (order.type, order.data.order_id, order.data.total) == (
            "order.placed",
            "1001",
            "40.00",
        )
        assert (zero.type, zero.data.total) == ("order.placed", "0")
        assert (credit.type, credit.data.refund_id, credit.data.order_id, credit.data.amount) == (
            "order.refunded",
            "C1003",
            None,
            "12.50",
        )

    @pytest.mark.parametrize("name", ["o.jsonl", "o.ndjson", "o.jsonl.gz"])
    def test_jsonl_says_the_same_as_csv(self, tmp_path, name):
        rows = list(csv.DictReader(io.StringIO(CSV)))
        path = written(tmp_path / name, jsonl(*rows))
        expected = said(read_orders(written(tmp_path / "o.csv", CSV), currency="EUR"))
        assert said(read_orders(path, currency="EUR")) == expected

    def test_parquet_says_the_same_as_csv(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow", reason="extra parquet is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="extra parquet is not installed")
        rows = list(csv.DictReader(io.StringIO(CSV)))
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "o.parquet")
        expected = said(read_orders(written(tmp_path / "o.csv", CSV), currency="EUR"))
        assert said(read_orders(tmp_path / "o.parquet", currency="EUR")) == expected
        assert count_rows(tmp_path / "o.parquet") == 3

    def test_parquet_has_typed_cells(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow", reason="extra parquet is not installed")
        parquet = pytest.importorskip("pyarrow.parquet", reason="extra parquet is not installed")
        table = pyarrow.table(
            {
                "customer": pyarrow.array([17850.0, 17851.0, 17852.0]),
                "time": pyarrow.array(
                    [datetime(2026, 1, 3, 10, tzinfo=UTC)] * 3, pyarrow.timestamp("ns", "UTC")
                ),
                "total": pyarrow.array([Decimal("12.3400"), Decimal(0), Decimal("-3.5000")]),
            }
        )
        parquet.write_table(table, tmp_path / "o.parquet")
        first, second, third = map(
            assert_accepted, read_orders(tmp_path / "o.parquet", currency="EUR")
        )
        assert first.data.customer_id == "17850"
        assert first.data.placed_at == datetime(2026, 1, 3, 10, tzinfo=UTC)
        assert [money_units(text) for text in (first.data.total, second.data.total)] == [123400, 0]
        assert money_units(third.data.amount) == 35000

    def test_parquet_without_pyarrow_names_the_extra(self, tmp_path, monkeypatch):
        def not_installed(name):
            raise ImportError(name)

        path = written(tmp_path / "o.parquet", b"PAR1")
        monkeypatch.setattr(importlib, "import_module", not_installed)
        with pytest.raises(InputFileError, match=r"clv-streams\[parquet\]"):
            list(read_orders(path))

    def test_a_byte_order_mark_and_semicolons_are_read(self, tmp_path):
        text = "\ufeff" + CSV.replace(",", ";").replace("\n", "\r\n")
        events = list(read_orders(written(tmp_path / "o.csv", text), currency="EUR"))
        assert events == list(read_orders(written(tmp_path / "o2.csv", CSV), currency="EUR"))

    def test_optional_fields(self, tmp_path):
        text = (
            "customer_id,time,amount,currency,cost_of_goods,channel,revision\n"
            "c1,2026-01-03T10:00:00Z,40,gbp,22.5,shop,2\n"
            "c1,2026-01-03T10:00:00Z,-40,GBP,-22.5,shop,\n"
        )
        order, credit = map(assert_accepted, read_orders(written(tmp_path / "o.csv", text)))
        assert order.data.model_dump(
            include={"currency", "cost_of_goods", "channel", "revision"}
        ) == {
            "currency": "GBP",
            "cost_of_goods": "22.5",
            "channel": "shop",
            "revision": 2,
        }
        assert credit.data.cost_recovered == "22.5"

    @given(
        rows=st.lists(
            st.tuples(
                st.text(
                    st.characters(codec="utf-8", exclude_categories=["C", "Z"]),
                    min_size=1,
                    max_size=20,
                ),
                st.datetimes(
                    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
                    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
                    timezones=st.just(UTC),
                ),
                st.decimals(min_value=-999_999_999, max_value=999_999_999, places=4),
            ),
            max_size=8,
        )
    )
    def test_whatever_is_written_is_read_back(self, tmp_path_factory, rows):
        path = tmp_path_factory.mktemp("rows") / "o.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["customer_id", "time", "amount"])
            writer.writerows((who, at.isoformat(), f"{amount:f}") for who, at, amount in rows)
        events = list(map(assert_accepted, read_orders(path, currency="EUR")))
        assert len(events) == len(rows)
        for event, (who, at, amount) in zip(events, rows, strict=True):
            assert event.data.customer_id == who
            assert event.data.occurred_at == at
            text = event.data.amount if amount < 0 else event.data.total
            assert money_units(text) == abs(amount) * 10_000


class TestColumns:
    @pytest.mark.parametrize(
        "header",
        [
            "customer_id,date,amount",
            "Customer ID,Order-Date,TOTAL",
            "CustomerID,InvoiceDate,Price",
            "customer,time,total",
        ],
    )
    def test_usual_headers_are_known(self, tmp_path, header):
        path = written(tmp_path / "o.csv", f"{header}\nc1,2026-01-03,40\n")
        (event,) = read_orders(path, currency="EUR")
        data = assert_accepted(event).data
        assert (data.customer_id, data.total) == ("c1", "40")

    def test_columns_names_foreign_headers(self, tmp_path):
        path = written(tmp_path / "o.csv", "Kunde,date,Summe,total\nc1,2026-01-03,40,99\n")
        names = {"customer_id": "Kunde", "amount": "Summe"}
        (event,) = read_orders(path, names, "EUR")
        assert assert_accepted(event).data.total == "40"

    def test_missing_columns_list_what_was_found(self, tmp_path):
        path = written(tmp_path / "o.csv", "Kunde,date,Summe\nc1,2026-01-03,40\n")
        with pytest.raises(InputFileError) as error:
            list(read_orders(path, currency="EUR"))
        for words in (str(path), "customer_id, amount", "'Kunde', 'date', 'Summe'"):
            assert words in str(error.value)

    def test_a_named_column_that_is_not_there(self, tmp_path):
        path = written(tmp_path / "o.csv", CSV)
        with pytest.raises(InputFileError, match="no column 'Kunde', named for customer_id"):
            list(read_orders(path, {"customer_id": "Kunde"}, "EUR"))

    def test_a_field_that_we_do_not_know(self, tmp_path):
        with pytest.raises(ValueError, match="'kunde' is not one of our fields: customer_id"):
            read_orders(written(tmp_path / "o.csv", CSV), {"kunde": "customer_id"})

    def test_no_currency(self, tmp_path):
        with pytest.raises(InputFileError, match="no currency"):
            list(read_orders(written(tmp_path / "o.csv", CSV)))


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "timezone", "expected"),
        [
            ("2026-01-03", "UTC", "2026-01-03T12:00:00Z"),
            ("2026-07-03", "Europe/Berlin", "2026-07-03T12:00:00+02:00"),
            ("2026-01-03 10:00", "UTC", "2026-01-03T10:00:00Z"),
            ("2026-01-03T10:00:00", "America/New_York", "2026-01-03T10:00:00-05:00"),
            ("2026-01-03T10:00:00+09:00", "Europe/Berlin", "2026-01-03T10:00:00+09:00"),
        ],
    )
    def test_dates_are_noon_and_naive_times_local(self, tmp_path, text, timezone, expected):
        path = written(tmp_path / "o.csv", f"customer,date,amount\nc1,{text},40\n")
        (event,) = read_orders(path, currency="EUR", timezone=timezone)
        assert_accepted(event)
        assert json.loads(event.value)["data"]["placed_at"] == expected

    @given(day=st.dates(date(1970, 1, 2), date(2200, 1, 1)), hours=st.integers(-11, 11))
    def test_a_date_stays_on_its_day_in_zones_within_eleven_hours(self, day, hours):
        elsewhere = timezone(timedelta(hours=hours))
        assert parse_time(day.isoformat(), UTC).astimezone(elsewhere).date() == day

    def test_an_unknown_timezone(self, tmp_path):
        with pytest.raises(ValueError, match="timezone: 'Mars/Olympus'"):
            read_orders(written(tmp_path / "o.csv", CSV), timezone="Mars/Olympus")


class TestAmounts:
    @given(st.decimals(min_value=0, max_value=999_999, places=6))
    def test_more_than_four_decimals_are_rounded_half_to_even(self, amount):
        text, negative = parse_amount(f"-{amount:f}")
        assert Decimal(text) == round(amount, 4)
        assert negative == (amount > 0)
        assert len(text.partition(".")[2]) <= 4

    @pytest.mark.parametrize("text", ["12,50", "1,234.50", "EUR 12", "NaN", "inf", "1_0", "-"])
    def test_what_is_no_plain_decimal_is_refused(self, text):
        with pytest.raises(ValueError, match="plain decimal"):
            parse_amount(text)

    def test_zero_with_a_sign_is_an_order(self):
        assert parse_amount("-0.00") == ("0.00", False)


class TestErrors:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("c1,03.01.2026,40.00,1", ["o.csv:3", "time (column 'date')", "'03.01.2026'", "ISO"]),
            ("c1,2026-01-03,40 EUR,1", ["o.csv:3", "column 'amount'", "'40 EUR'", "1234.50"]),
            ("c1,2026-01-03,999999999999999,1", ["o.csv:3", "14 digits"]),
            (",2026-01-03,40.00,1", ["o.csv:3", "customer_id: column 'customer_id' is empty"]),
            ("c1,2026-01-03,,1", ["o.csv:3", "amount: column 'amount' is empty"]),
            ("c1,2026-01-03,12,50,1", ["o.csv:3", "5 cells, but the header has 4"]),
            ("c1,2026-01-03", ["o.csv:3", "2 cells, but the header has 4"]),
        ],
    )
    def test_say_file_line_column_value_and_what_to_do(self, tmp_path, line, words):
        good = "c0,2026-01-01,1.00,0"
        path = written(tmp_path / "o.csv", f"customer_id,date,amount,order_id\n{good}\n{line}\n")
        with pytest.raises(InputFileError) as error:
            list(read_orders(path, currency="EUR"))
        assert error.value.line == 3
        for word in words:
            assert word in str(error.value)

        first, second = read_orders(path, currency="EUR", errors="publish")
        assert_accepted(first)
        assert second.time == first.time or second.time > first.time
        with pytest.raises(Refused):
            decode(second.key, second.value, second.headers)

    @pytest.mark.parametrize(
        ("field", "cell", "words"),
        [
            ("revision", "two", "whole number"),
            ("currency", "EURO", "ISO 4217"),
            ("cost_of_goods", "half", "plain decimal"),
            ("cost_of_goods", "-5", "not negative"),
        ],
    )
    def test_a_bad_optional_field_is_never_dropped(self, tmp_path, field, cell, words):
        path = written(tmp_path / "o.csv", f"customer,date,amount,{field}\nc,2026-01-03,1,{cell}\n")
        with pytest.raises(InputFileError, match=words):
            list(read_orders(path, currency="EUR"))
        (event,) = read_orders(path, currency="EUR", errors="publish")
        with pytest.raises(Refused) as refused:
            decode(event.key, event.value, event.headers)
        assert refused.value.field == f"data.{field}"

    def test_line_items_are_not_taken_for_orders(self, tmp_path):
        path = written(tmp_path / "o.csv", CSV + "c1,2026-01-05,-7.50,C1003\n")
        for errors in ("raise", "publish"):
            with pytest.raises(InputFileError, match=r"o\.csv:5: order 'C1003' is on line 4 too"):
                list(read_orders(path, currency="EUR", errors=errors))

    def test_versions_of_an_order_and_repeated_rows_are_welcome(self, tmp_path):
        header, row = "customer,date,amount,order,revision", "c1,2026-01-03,{},7,{}"
        versions = [row.format(40, 1), row.format(35, 2), row.format(35, 2)]
        path = written(tmp_path / "o.csv", "\n".join([header, *versions]))
        ids = [envelope["id"] for envelope in envelopes(read_orders(path, currency="EUR"))]
        assert ids[0] != ids[1] == ids[2]

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(InputFileError, match="no such file"):
            read_orders(tmp_path / "nowhere.csv")

    def test_an_unknown_format_lists_the_known(self, tmp_path):
        with pytest.raises(InputFileError, match=r"\.csv, \.jsonl, \.ndjson .* \.parquet"):
            read_orders(tmp_path / "orders.xlsx")

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("o.csv", b"", "empty"),
            (
                "o.csv",
                CSV.encode() + "c\xe9,2026-01-03,1,2\n".encode("latin-1"),
                "o.csv:5: not UTF-8",
            ),
            ("o.parquet", b"not parquet", "not a readable Parquet file"),
        ],
    )
    def test_files_that_cannot_be_read(self, tmp_path, name, content, words):
        with pytest.raises(InputFileError, match=words):
            list(read_orders(written(tmp_path / name, content), currency="EUR"))

    def test_a_damaged_gzip_file(self, tmp_path):
        path = tmp_path / "o.csv.gz"
        path.write_bytes(gzip.compress(CSV.encode())[:-12])
        with pytest.raises(InputFileError, match="damaged gzip"):
            list(read_orders(path, currency="EUR"))

    @pytest.mark.parametrize("line", ["{not json", "[1, 2]", '"text"'])
    def test_lines_that_are_no_json_object(self, tmp_path, line):
        path = written(tmp_path / "o.jsonl", line + "\n")
        with pytest.raises(InputFileError, match=r"o\.jsonl:1: not (a )?JSON"):
            list(read_orders(path, currency="EUR"))
        (event,) = read_orders(path, currency="EUR", errors="publish")
        assert (event.key, event.value) == (None, line.encode())

    def test_a_json_row_without_customer_is_published_without_key(self, tmp_path):
        path = written(tmp_path / "o.jsonl", jsonl({"date": "2026-01-03", "amount": 4.5}))
        with pytest.raises(InputFileError, match=r"o\.jsonl:1: customer_id"):
            list(read_orders(path, currency="EUR"))
        (event,) = read_orders(path, currency="EUR", errors="publish")
        assert event.key is None
        with pytest.raises(Refused) as refused:
            decode(event.key, event.value, event.headers)
        assert refused.value.field == "data.customer_id"


class TestCloudEvents:
    def test_are_passed_on_byte_for_byte_to_the_topic_of_their_type(self, tmp_path):
        line = json.dumps({**RATED, "partitionkey": "c9"}, indent=None, separators=(", ", " : "))
        (event,) = read_orders(written(tmp_path / "o.jsonl", line))
        assert (event.topic, event.key, event.value) == ("support", b"c9", line.encode())
        assert_accepted(event)

    @pytest.mark.parametrize(
        ("event_type", "time_field", "topic"),
        [
            ("order.placed", "placed_at", "orders"),
            ("ticket.opened", "opened_at", "support"),
            ("survey.answered", "answered_at", "support"),
            ("customer.erased", "erased_at", "identities"),
        ],
    )
    def test_topics(self, tmp_path, event_type, time_field, topic):
        line = {
            **RATED,
            "type": event_type,
            "data": {"customer_id": "c1", time_field: "2026-01-03"},
        }
        (event,) = read_orders(written(tmp_path / "o.jsonl", jsonl(line)))
        assert (event.topic, event.key) == (topic, b"c1")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({}, "names no customer"),
            ({"type": "cart.filled"}, "type is 'cart.filled'"),
            ({"data": {"customer_id": "c1"}}, "data.rated_at is None"),
        ],
    )
    def test_that_cannot_be_placed(self, tmp_path, change, words):
        path = written(tmp_path / "o.jsonl", jsonl({**RATED, **change}))
        with pytest.raises(InputFileError, match=words):
            list(read_orders(path))
        (event,) = read_orders(path, errors="publish")
        with pytest.raises(Refused):
            decode(event.key, event.value, event.headers)

    def test_stand_among_rows_of_orders(self, tmp_path):
        row = {"customer_id": "c1", "date": "2026-01-03", "amount": 40.10}
        path = written(tmp_path / "o.jsonl", jsonl(row, {**RATED, "partitionkey": "c1"}))
        order, rated = map(assert_accepted, read_orders(path, currency="EUR"))
        assert (order.data.total, rated.type) == ("40.1", "ticket.rated")


class TestIdentity:
    def test_the_same_file_again_says_the_same_events(self, tmp_path):
        path = written(tmp_path / "o.csv", CSV)
        assert list(read_orders(path, currency="EUR")) == list(read_orders(path, currency="EUR"))

    def test_another_row_on_the_same_line_is_another_event(self, tmp_path):
        first = written(tmp_path / "o.csv", CSV)
        ids = {envelope["id"] for envelope in envelopes(read_orders(first, currency="EUR"))}
        changed = written(tmp_path / "o.csv", CSV.replace("40.00", "41.00"))
        changed_ids = {
            envelope["id"] for envelope in envelopes(read_orders(changed, currency="EUR"))
        }
        assert len(ids - changed_ids) == 1

    def test_source_scopes_the_order_ids(self, tmp_path):
        path = written(tmp_path / "o.csv", CSV)
        (source,) = {e["source"] for e in envelopes(read_orders(path, None, "EUR", "/shop/eu"))}
        assert source == "/shop/eu"


class TestCounting:
    @pytest.mark.parametrize("name", ["o.csv", "o.csv.gz"])
    @pytest.mark.parametrize("rows", [0, 1, 1_000, 50_000])
    def test_is_near_the_truth(self, tmp_path, name, rows):
        lines = "".join(f"c{row},2026-01-03,{row % 97}.50,{row}\n" for row in range(rows))
        path = written(tmp_path / name, "customer_id,date,amount,order_id\n" + lines)
        # The first ids are shorter than the last, which is as misleading as first rows get.
        assert count_rows(path) == pytest.approx(rows, rel=0.1)

    def test_is_exact_for_a_small_file_without_a_last_line_break(self, tmp_path):
        assert count_rows(written(tmp_path / "o.csv", CSV.rstrip())) == 3

    def test_is_not_tried_where_gzip_does_not_know(self, tmp_path):
        path = written(tmp_path / "o.csv.gz", CSV)
        with path.open("r+b") as file:
            file.truncate(300_000_000)
        assert count_rows(path) is None


class TestStreaming:
    @pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
    def test_the_first_events_come_before_the_file_is_read(self, tmp_path, name):
        """A bad row far behind shows only when its turn comes."""
        if name.endswith("csv"):
            text = "customer,date,amount\n" + "c,2026-01-03,1\n" * 1_000 + "c,never,1\n"
        else:
            row = {"customer": "c", "date": "2026-01-03", "amount": 1}
            text = jsonl(*[row] * 1_000, {**row, "date": "never"})
        events = read_orders(written(tmp_path / name, text), currency="EUR")
        for _ in range(1_000):
            next(events)
        with pytest.raises(InputFileError, match="never"):
            next(events)
