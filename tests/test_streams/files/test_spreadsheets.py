"""What spreadsheets do to CSV files: it is read, or refused by name."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.files.errors import InputFileError
from streams.files.values import parse_amount
from tests.test_streams.commands import clv, refused

from .support import accepted

HEADER = "customer_id;date;amount;order_id"
ROWS = ["c1;2026-01-03;1.234,50;1", "c2;2026-01-04;-7,25;2", "c3;2026-01-05;12;3"]


def text(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def amounts(path: Path, **options: object) -> list[str]:
    events = accepted(path, **options)
    return [getattr(event.data, "total", None) or event.data.amount for event in events]


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_that_names_the_separator(tmp_path: Path, line: str, end: str) -> None:
    path = text(tmp_path / "o.csv", line, HEADER, "c1;2026-01-03;10;1", "c,1;x;10;2", end=end)
    with pytest.raises(InputFileError, match=r"o\.csv:4: time \(column 'date'\) is 'x'"):
        accepted(path)
    path = text(tmp_path / "o.csv", line, HEADER, "c1;2026-01-03;10;1", end=end)
    assert amounts(path) == ["10"]


def test_a_separator_that_could_not_be_guessed_is_taken_from_that_line(tmp_path: Path) -> None:
    path = text(tmp_path / "o.csv", "sep=|", HEADER.replace(";", "|"), "c1|2026-01-03|10|1")
    assert amounts(path) == ["10"]


def test_line_ends_of_old_macintoshes_are_refused_by_name(tmp_path: Path) -> None:
    path = text(tmp_path / "o.csv", HEADER, *ROWS, end="\r")
    with pytest.raises(InputFileError, match=r"carriage return alone.*save it as CSV UTF-8"):
        accepted(path)
    many = text(tmp_path / "many.csv", HEADER, *ROWS * 100_000, end="\r")
    with pytest.raises(InputFileError, match="carriage return alone"):
        accepted(many)


def test_decimal_commas_are_read_if_they_are_named(tmp_path: Path) -> None:
    path = text(tmp_path / "o.csv", HEADER, *ROWS)
    assert amounts(path, decimal="comma") == ["1234.50", "7.25", "12"]
    with pytest.raises(InputFileError, match=r":2: amount .* is '1\.234,50'.*--decimal comma"):
        accepted(path)
    assert "add --decimal comma" in refused("score", path, "--currency", "EUR")
    done = clv("score", path, "--currency", "EUR", "--decimal", "comma")
    assert done.returncode == 0, done.stderr
    assert "3 customers valued" in done.stderr


@pytest.mark.parametrize("cell", ["12.50", "1,234.50", "1.23,50", "12,5 €", "1,2,3", "x", "1.2345"])
def test_what_is_no_decimal_comma_is_refused_under_it(cell: str) -> None:
    with pytest.raises(ValueError, match=r"with --decimal comma, write 1234,50"):
        parse_amount(cell, comma=True)


@given(st.decimals(-9_999_999, 9_999_999, places=2), st.sampled_from(". \u00a0\u202f"))
def test_every_amount_is_read_as_it_is_written_with_a_comma(amount: Decimal, apart: str) -> None:
    written = f"{amount:,.2f}".replace(",", "~").replace(".", ",").replace("~", apart)
    assert parse_amount(written, comma=True).signed() == amount
    assert parse_amount(f"{amount:.2f}".replace(".", ","), comma=True).signed() == amount


@pytest.mark.parametrize("value", [12.5, Decimal("12.5"), 12])
def test_numbers_have_no_comma(value: object) -> None:
    assert parse_amount(value, comma=True).signed() == Decimal(str(value))


@pytest.mark.parametrize("column", ["customer_id", "order_id"])
@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("#N/A", "an error of a spreadsheet's formula"),
        ("#REF!", "an error of a spreadsheet's formula"),
        ("4.71E+12", "a number that a spreadsheet has shortened"),
        ("4,71E+12", "a number that a spreadsheet has shortened"),
    ],
)
def test_ids_that_a_spreadsheet_has_destroyed_are_refused(
    tmp_path: Path, column: str, cell: str, words: str
) -> None:
    """Else thousands of customers would be one."""
    row = {"customer_id": "c1", "order_id": "1", column: cell}
    path = text(tmp_path / "o.csv", HEADER, f"{row['customer_id']};2026-01-03;1;{row['order_id']}")
    with pytest.raises(InputFileError, match=f":2: {column} .* is '.*': {words}"):
        accepted(path)


@pytest.mark.parametrize("cell", ["#1001", "E+1", "1E5", "4E+", "A4.71E+12"])
def test_ids_that_only_look_so_are_taken(tmp_path: Path, cell: str) -> None:
    path = text(tmp_path / "o.csv", HEADER, f"c1;2026-01-03;1;{cell}")
    assert accepted(path)[0].data.order_id == cell


def test_rows_that_were_cleared_are_no_rows(tmp_path: Path) -> None:
    path = text(tmp_path / "o.csv", HEADER, "c1;2026-01-03;1;1", ";;;", "", ";;;;;")
    assert amounts(path) == ["1"]


def test_local_times_are_of_the_time_zone_that_is_named(tmp_path: Path) -> None:
    path = text(
        tmp_path / "o.csv", HEADER, "c1;2026-01-03 10:00;1;1", "c1;2026-01-03 10:00 -0500;1;2"
    )
    local, elsewhere = accepted(path, timezone="Europe/Berlin")
    assert local.data.placed_at.isoformat() == "2026-01-03T10:00:00+01:00"
    assert elsewhere.data.placed_at.isoformat() == "2026-01-03T10:00:00-05:00"


@pytest.mark.parametrize("cell", ["03.01.2026", "1/3/2026", "46025", "3 Jan 2026"])
def test_dates_that_can_be_read_in_several_ways_are_refused(tmp_path: Path, cell: str) -> None:
    path = text(tmp_path / "o.csv", HEADER, f"c1;{cell};1;1")
    with pytest.raises(InputFileError, match="write ISO 8601, such as 2026-01-31"):
        accepted(path)


def test_utf_16_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_bytes(f"{HEADER}\n".encode("utf-16"))
    with pytest.raises(InputFileError, match=r"o\.csv:1: not UTF-8 .*; convert the file"):
        accepted(tmp_path / "o.csv")
