"""Exports of shops as they are: what counts, what was refunded or cancelled, and what does not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.context import Context
from models.economics import Economics
from streams.batch import fold_events
from streams.files.columns import FIELDS, plain
from streams.files.errors import InputFileError
from streams.files.reader import read_orders
from streams.files.report import FileReport
from streams.files.shops import SHOPS
from streams.files.statuses import STATUSES, Standing, plain_status
from tests.test_streams.commands import clv, refused

from .support import accepted

SHOPIFY = (
    "Name", "Email", "Financial Status", "Paid at", "Fulfillment Status", "Fulfilled at",
    "Accepts Marketing", "Currency", "Subtotal", "Shipping", "Taxes", "Total", "Discount Code",
    "Discount Amount", "Shipping Method", "Created at", "Lineitem quantity", "Lineitem name",
    "Lineitem price", "Lineitem sku", "Billing Name", "Notes", "Cancelled at", "Payment Method",
    "Refunded Amount", "Vendor", "Outstanding Balance", "Id", "Tags", "Source", "Phone",
)  # fmt: skip
WOOCOMMERCE = (
    "order_id", "order_number", "order_date", "paid_date", "status", "shipping_total",
    "tax_total", "order_total", "refunded_total", "order_currency", "payment_method",
    "customer_id", "billing_first_name", "billing_email", "customer_note",
)  # fmt: skip
STRIPE = (
    "id", "Description", "Seller Message", "Created (UTC)", "Amount", "Amount Refunded",
    "Currency", "Converted Amount", "Converted Amount Refunded", "Fee", "Tax",
    "Converted Currency", "Mode", "Status", "Statement Descriptor", "Customer ID",
    "Customer Description", "Customer Email", "Captured", "Card ID",
)  # fmt: skip


def exported(path: Path, header: Sequence[str], *rows: Mapping[str, object]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    return path


def shopify(name: str, status: str = "paid", **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "Name": name, "Email": "anna@example.com", "Financial Status": status,
        "Paid at": "2026-03-01 10:05:00 +0100", "Currency": "EUR", "Subtotal": "100.00",
        "Shipping": "0.00", "Taxes": "19.00", "Total": "119.00",
        "Created at": "2026-03-01 10:00:00 +0100", "Refunded Amount": "0.00",
        "Lineitem quantity": 1, "Lineitem name": "Tea", "Lineitem price": "60.00", "Id": "7",
        "Source": "web",
    }  # fmt: skip
    return {**row, **more}


def further(name: str) -> dict[str, object]:
    return {
        "Name": name, "Email": "anna@example.com", "Created at": "2026-03-01 10:00:00 +0100",
        "Lineitem quantity": 1, "Lineitem name": "Pot", "Lineitem price": "40.00",
    }  # fmt: skip


def woocommerce(order: int, status: str = "completed", **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "order_id": order, "order_number": order, "order_date": "2026-03-01 10:00:00",
        "status": status, "tax_total": "19.00", "order_total": "119.00", "refunded_total": "0",
        "order_currency": "EUR", "customer_id": "17", "billing_email": "Bert@Example.com",
    }  # fmt: skip
    return {**row, **more}


def stripe(charge: str, status: str = "Paid", **more: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": charge, "Created (UTC)": "2026-03-01 09:00", "Amount": "49.90",
        "Amount Refunded": "0.00", "Currency": "eur", "Status": status, "Customer ID": "cus_1",
        "Customer Email": "carl@example.com", "Captured": "true", "Fee": "1.20", "Tax": "0.00",
    }  # fmt: skip
    return {**row, **more}


def told(path: Path, shop: str, **options: Any) -> tuple[list[Any], dict[str, int]]:
    """The events as the service accepts them, and the rows that do not count."""
    report = FileReport()
    events = accepted(path, currency=None, shop=shop, report=report, **options)
    return events, dict(report.uncounted)


def facts(events: Sequence[Any]) -> list[tuple[str, str, str | None]]:
    """Type, customer, and money of each event."""
    return [
        (e.type, e.data.customer_id, getattr(e.data, "total", getattr(e.data, "amount", None)))
        for e in events
    ]


ANNA, BERT, CARL = "anna@example.com", "17", "cus_1"
COUNT = {Standing.PAID, Standing.REFUNDED}
AT = datetime(2026, 3, 1, 9, tzinfo=UTC)


class TestShopify:
    def test_orders_of_several_rows_count_once_net_of_tax(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path / "orders.csv", SHOPIFY,
            shopify("#1001"), further("#1001"), shopify("#1002", Email="Dora@Example.com"),
            further("#1001"), further("#1002"),
        )  # fmt: skip
        events, uncounted = told(path, "shopify")
        assert facts(events) == [
            ("order.placed", ANNA, "100.00"),
            ("order.placed", "dora@example.com", "100.00"),
        ]
        assert [event.data.placed_at for event in events] == [AT, AT]
        assert [event.data.order_id for event in events] == ["#1001", "#1002"]
        assert uncounted == {}

    @pytest.mark.parametrize(
        ("status", "refunded", "net"),
        [("partially_refunded", "59.50", "50.00"), ("refunded", "119.00", "100.00")],
    )
    def test_refunds_are_of_their_order_and_net_of_tax_too(
        self, tmp_path: Path, status: str, refunded: str, net: str
    ) -> None:
        row = shopify("#1001", status, **{"Refunded Amount": refunded})
        events, _ = told(exported(tmp_path / "o.csv", SHOPIFY, row), "shopify")
        assert [event.type for event in events] == ["order.placed", "order.refunded"]
        refund = events[1].data
        assert (refund.order_id, refund.currency, refund.refunded_at) == ("#1001", "EUR", AT)
        assert float(refund.amount) == float(net)

    def test_a_cancelled_order_is_taken_back(self, tmp_path: Path) -> None:
        row = shopify(
            "#1001", "refunded",
            **{"Cancelled at": "2026-03-02 08:00:00 +0100", "Refunded Amount": "119.00"},
        )  # fmt: skip
        events, _ = told(exported(tmp_path / "o.csv", SHOPIFY, row), "shopify")
        assert [event.type for event in events] == ["order.placed", "order.cancelled"]
        assert events[1].data.cancelled_at == datetime(2026, 3, 2, 7, tzinfo=UTC)

    def test_what_is_not_paid_does_not_count_and_is_told(self, tmp_path: Path) -> None:
        unpaid = ["pending", "authorized", "voided", "expired", "partially_paid", "pending"]
        rows = [shopify(f"#{n}", status) for n, status in enumerate(unpaid)]
        path = exported(tmp_path / "o.csv", SHOPIFY, *rows, further("#0"), shopify("#9"))
        events, uncounted = told(path, "shopify")
        assert [event.data.order_id for event in events] == ["#9"]
        assert uncounted == {
            "pending": 2, "authorized": 1, "voided": 1, "expired": 1, "partially_paid": 1,
        }  # fmt: skip

    def test_without_an_address_the_phone_number_is_the_customer(self, tmp_path: Path) -> None:
        row = shopify("#1", Email="", Phone="+49 30 1")
        events, _ = told(exported(tmp_path / "o.csv", SHOPIFY, row), "shopify")
        assert events[0].data.customer_id == "+49 30 1"

    def test_rows_of_an_order_whose_first_row_comes_later(self, tmp_path: Path) -> None:
        """As after sorting in a spreadsheet."""
        path = exported(tmp_path / "o.csv", SHOPIFY, further("#1"), shopify("#1"))
        assert len(told(path, "shopify")[0]) == 1
        path = exported(tmp_path / "o.csv", SHOPIFY, shopify("#1"), further("#2"))
        with pytest.raises(InputFileError, match=r"o\.csv:3: a line item of order '#2', whose fir"):
            told(path, "shopify")


class TestWooCommerce:
    def test_orders_in_local_time_net_of_tax(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path / "o.csv", WOOCOMMERCE,
            woocommerce(1), woocommerce(2, "wc-processing", customer_id=0),
        )  # fmt: skip
        events, _ = told(path, "woocommerce", timezone="Europe/Berlin")
        assert facts(events) == [
            ("order.placed", BERT, "100.00"),
            ("order.placed", "bert@example.com", "100.00"),
        ]
        assert {event.data.placed_at for event in events} == {AT}

    def test_refunds_and_cancellations(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path / "o.csv", WOOCOMMERCE,
            woocommerce(1, refunded_total="11.90"), woocommerce(2, "refunded"),
            woocommerce(3, "cancelled"),
        )  # fmt: skip
        events, _ = told(path, "woocommerce")
        found = [
            (kind, None if money is None else float(money)) for kind, _, money in facts(events)
        ]
        assert found == [
            ("order.placed", 100), ("order.refunded", 10),
            ("order.placed", 100), ("order.refunded", 100),
            ("order.placed", 100), ("order.cancelled", None),
        ]  # fmt: skip

    def test_what_was_refunded_may_be_a_negative_number(self, tmp_path: Path) -> None:
        path = exported(tmp_path / "o.csv", WOOCOMMERCE, woocommerce(1, refunded_total="-11.90"))
        assert float(told(path, "woocommerce")[0][1].data.amount) == 10

    def test_what_is_not_paid_may_lack_everything(self, tmp_path: Path) -> None:
        empty = {"order_total": "", "order_date": "", "customer_id": "", "billing_email": ""}
        rows = [woocommerce(n, status, **empty) for n, status in enumerate(["failed", "on-hold"])]
        events, uncounted = told(exported(tmp_path / "o.csv", WOOCOMMERCE, *rows), "woocommerce")
        assert (events, uncounted) == ([], {"failed": 1, "on-hold": 1})


class TestStripe:
    def test_payments_are_in_utc_whatever_the_shops_time_zone(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path / "o.csv", STRIPE,
            stripe("ch_1"), stripe("ch_2", **{"Customer ID": "", "Currency": "usd"}),
        )  # fmt: skip
        events, _ = told(path, "stripe", timezone="Asia/Tokyo")
        assert facts(events) == [
            ("order.placed", CARL, "49.90"),
            ("order.placed", "carl@example.com", "49.90"),
        ]
        assert {event.data.placed_at for event in events} == {AT}
        assert [event.data.currency for event in events] == ["EUR", "USD"]

    def test_refunds(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path / "o.csv", STRIPE,
            stripe("ch_1", **{"Amount Refunded": "9.90"}), stripe("ch_2", "Refunded"),
        )  # fmt: skip
        events, _ = told(path, "stripe")
        assert [money for _, _, money in facts(events)] == ["49.90", "9.90", "49.90", "49.90"]

    def test_failed_and_reserved_payments_do_not_count(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path / "o.csv", STRIPE,
            stripe("ch_1", "Failed", Captured="false"), stripe("ch_2", Captured="false"),
        )  # fmt: skip
        events, uncounted = told(path, "stripe")
        assert (events, uncounted) == ([], {"Failed": 1, "not captured": 1})


EXPORTS = {
    "shopify": (SHOPIFY, shopify("#1")),
    "woocommerce": (WOOCOMMERCE, woocommerce(1)),
    "stripe": (STRIPE, stripe("ch_1")),
}


@pytest.mark.parametrize("shop", SHOPS)
class TestEveryShop:
    def test_uses_our_fields_and_our_way_of_comparing(self, shop: str) -> None:
        spec = SHOPS[shop]
        assert spec.name == shop
        assert set(spec.columns) <= set(FIELDS)
        headers = [header for names in spec.columns.values() for header in names]
        assert [header for header in (*headers, *spec.otherwise) if plain(header) != header] == []
        assert [status for status in spec.statuses if plain_status(status) != status] == []

    def test_agrees_with_the_usual_meaning_of_a_status(self, shop: str) -> None:
        for status, standing in SHOPS[shop].statuses.items():
            usual = STATUSES.get(status, standing)
            assert (standing in COUNT) == (usual in COUNT), status

    def test_a_status_that_is_not_known_is_refused_and_can_be_explained(
        self, tmp_path: Path, shop: str
    ) -> None:
        header, row = EXPORTS[shop]
        column = next(name for name in header if plain(name) in SHOPS[shop].columns["status"])
        path = exported(tmp_path / "o.csv", header, row, {**row, header[0]: "x", column: "odd"})
        for errors in ("raise", "publish"):
            with pytest.raises(InputFileError, match=r"o\.csv:3: status .* is 'odd'.*--status"):
                told(path, shop, errors=errors)
        assert told(path, shop, statuses={"odd": "unpaid"})[1] == {"odd": 1}
        assert len(told(path, shop, statuses={"Odd": "paid"})[0]) == 2
        assert len(told(path, shop, ignore_status=True)[0]) == 2

    def test_another_file_is_no_export_of_it(self, tmp_path: Path, shop: str) -> None:
        path = exported(tmp_path / "o.csv", ["Date", "Sum"], {"Date": "2026-01-01", "Sum": 1})
        with pytest.raises(InputFileError, match=f"no export of {SHOPS[shop].title}: there is no"):
            told(path, shop)

    def test_a_later_export_changes_only_what_has_changed(self, tmp_path: Path, shop: str) -> None:
        """Loaded once more after a refund: the order counts once, and the refund too."""
        header, row = EXPORTS[shop]
        refunded = next(name for name in header if plain(name) in SHOPS[shop].columns["refunded"])
        first = exported(tmp_path / "1.csv", header, row)
        later = exported(tmp_path / "2.csv", header, {**row, refunded: "10.00"})
        latest = exported(tmp_path / "3.csv", header, {**row, refunded: "20.00"})
        events = [
            event
            for path in (first, later, latest, latest)
            for event in read_orders(path, shop=shop)
        ]
        folded = fold_events(
            events, Context(Economics(currency="EUR")), datetime(2027, 1, 1, tzinfo=UTC)
        )
        assert (folded.accepted, len(events)) == (3, 7)

    def test_a_command_reads_it(self, tmp_path: Path, shop: str) -> None:
        header, row = EXPORTS[shop]
        path = exported(tmp_path / "o.csv", header, row)
        done = clv("score", path, "--shop", shop, "--currency", "EUR")
        assert done.returncode == 0, done.stderr
        (scored,) = csv.DictReader(io.StringIO(done.stdout))
        assert scored["customer_id"] == {"shopify": ANNA, "woocommerce": BERT, "stripe": CARL}[shop]


def test_an_unknown_shop_and_line_items_of_a_known_one(tmp_path: Path) -> None:
    path = exported(tmp_path / "o.csv", STRIPE, stripe("ch_1"))
    assert "'ebay' is not one of shopify, stripe, woocommerce" in refused(
        "score", path, "--shop", "ebay"
    )
    assert "line items" in refused("score", path, "--shop", "stripe", "--line-items")
    assert "are for files" in refused("score", "cdnow", "--shop", "stripe")


class TestStatusOfOtherFiles:
    HEADER = ("customer", "date", "amount", "currency", "Payment Status")

    def row(self, status: str, **more: object) -> dict[str, object]:
        return {
            "customer": "c1", "date": "2026-01-03", "amount": "10", "currency": "EUR",
            "Payment Status": status, **more,
        }  # fmt: skip

    @pytest.mark.parametrize(
        "header", ["status", "Order Status", "payment_status", "Financial-Status"]
    )
    def test_a_column_of_statuses_does_not_count_silently(
        self, tmp_path: Path, header: str
    ) -> None:
        names = (*self.HEADER[:-1], header)
        rows = [
            dict(zip(names, self.row(status).values(), strict=True))
            for status in ("paid", "bezahlt", "bezahlt")
        ]
        path = exported(tmp_path / "o.csv", names, *rows)
        with pytest.raises(InputFileError) as error:
            accepted(path)
        for words in (
            f"column '{header}'", f"--columns status='{header}'", "--ignore-status",
            "'bezahlt' (2 rows), 'paid' (1 rows)",
        ):  # fmt: skip
            assert words in str(error.value)
        assert len(accepted(path, ignore_status=True)) == 3

    def test_a_named_column_decides(self, tmp_path: Path) -> None:
        path = exported(
            tmp_path / "o.csv", self.HEADER,
            self.row("Paid"), self.row("refunded", customer="c2"), self.row("Cancelled"),
            self.row("offen"), self.row("on hold"),
        )  # fmt: skip
        report = FileReport()
        events = accepted(
            path, columns={"status": "Payment Status"}, statuses={"offen": "unpaid"}, report=report
        )
        assert [event.type for event in events] == [
            "order.placed", "order.placed", "order.refunded", "order.placed", "order.cancelled",
        ]  # fmt: skip
        assert report.uncounted == {"offen": 1, "on hold": 1}

    def test_an_empty_status_is_not_taken_for_paid(self, tmp_path: Path) -> None:
        path = exported(tmp_path / "o.csv", self.HEADER, self.row(""))
        with pytest.raises(InputFileError, match="is '', and it is not known"):
            accepted(path, columns={"status": "Payment Status"})

    def test_rows_of_json_have_statuses_too(self, tmp_path: Path) -> None:
        path = tmp_path / "o.jsonl"
        path.write_text(json.dumps(self.row("paid")) + "\n")
        with pytest.raises(InputFileError, match="the column 'Payment Status' may say"):
            accepted(path)

    def test_the_command_takes_it_and_tells(self, tmp_path: Path) -> None:
        path = exported(tmp_path / "o.csv", self.HEADER, self.row("bezahlt"), self.row("offen"))
        done = clv(
            "score", path, "--currency", "EUR", "--columns", "status=Payment Status",
            "--status", "bezahlt=paid", "--status", "offen=unpaid",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "1 rows do not count, by their status: 1 offen" in done.stderr
        assert "allowed: paid, refunded" in refused(
            "score", path, "--currency", "EUR", "--status", "bezahlt=ja"
        )

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"tax": "11"}, "tax is 11, more than the amount, which is 10"),
            ({"tax": "two"}, r"tax \(column 'tax'\) is 'two'"),
            ({"back": "two"}, r"refunded \(column 'back'\) is 'two'"),
            ({"gone": "soon"}, r"cancelled_at \(column 'gone'\) is 'soon'"),
        ],
    )
    def test_wrong_cells_are_refused(
        self, tmp_path: Path, more: dict[str, object], words: str
    ) -> None:
        header = (*self.HEADER, "tax", "back", "gone")
        path = exported(tmp_path / "o.csv", header, self.row("paid", **more))
        columns = {
            "status": "Payment Status", "tax": "tax", "refunded": "back", "cancelled_at": "gone",
        }  # fmt: skip
        with pytest.raises(InputFileError, match=words):
            accepted(path, columns=columns)
        report = FileReport()
        events = list(read_orders(path, columns, errors="publish", report=report))
        assert report.refused.numbers.total() == 1
        folded = fold_events(
            events, Context(Economics(currency="EUR")), datetime(2027, 1, 1, tzinfo=UTC)
        )
        assert folded.dead_letters.total() == 1
