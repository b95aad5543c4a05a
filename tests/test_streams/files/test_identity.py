"""A row is identified by what it says, not by its neighbours, its line or its file."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.context import Context
from models.economics import Economics
from streams.batch import fold_events
from streams.files.errors import InputFileError
from streams.files.reader import read_orders

from .support import accepted, documents, written

HEADER = "customer_id,date,amount,order_id"
WITHOUT_ID = "customer_id,date,amount"
YEAR_END = datetime(2026, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize("between", [0, 1, 500])
@pytest.mark.parametrize("errors", ["raise", "publish"])
def test_an_order_on_two_lines_that_differ_is_refused_wherever_they_are(
    tmp_path: Path, between: int, errors: str
) -> None:
    others = [f"c2,2026-01-04,5.00,other-{number}" for number in range(between)]
    path = written(tmp_path / "o.csv", HEADER, "c1,2026-01-03,10,7", *others, "c1,2026-01-03,15,7")
    found = rf"o\.csv:{between + 3}: order '7' is on line 2 too.*--line-items.*revision"
    with pytest.raises(InputFileError, match=found):
        list(read_orders(path, currency="EUR", errors=errors))


def test_an_order_that_is_said_twice_alike_counts_once(tmp_path: Path) -> None:
    path = written(
        tmp_path / "o.csv", HEADER,
        "c1,2026-01-03T10:00:00Z,10,7", "c2,2026-01-03,1,8", "c1,2026-01-03T12:00:00+02:00,10.00,7",
    )  # fmt: skip
    folded = fold_events(
        read_orders(path, currency="EUR"), Context(Economics(currency="EUR")), YEAR_END
    )
    assert (folded.accepted, folded.duplicates) == (2, 1)


def test_versions_are_told_apart_by_their_revision(tmp_path: Path) -> None:
    header = f"{HEADER},revision"
    versions = ["c1,2026-01-03,10,7,1", "c2,2026-01-03,1,8,", "c1,2026-01-03,15,7,2"]
    path = written(tmp_path / "o.csv", header, *versions)
    assert [event.data.revision for event in accepted(path)] == [1, None, 2]
    written(path, header, *versions, "c1,2026-01-03,16,7,2")
    with pytest.raises(InputFileError, match=r":5: order '7' with revision 2 is on line 4 too"):
        accepted(path)


def test_a_refund_under_the_orders_own_id_is_not_taken_for_another_order(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", HEADER, "c1,2026-01-03,10,7", "c1,2026-01-09,-4,7")
    with pytest.raises(InputFileError, match="if one is a refund, give it an id of its own"):
        accepted(path)


ROWS = ["c1,2026-01-03,10", "c1,2026-01-03,10", "c2,2026-01-03,10", "c1,2026-01-05,-4"]


def ids(path: Path) -> list[str]:
    return [document["id"] for document in documents(read_orders(path, currency="EUR"))]


def test_a_line_more_at_the_top_changes_no_other_event(tmp_path: Path) -> None:
    first = ids(written(tmp_path / "o.csv", WITHOUT_ID, *ROWS))
    more = ids(written(tmp_path / "o.csv", WITHOUT_ID, "c9,2026-01-01,1", *ROWS))
    assert more[1:] == first
    assert len(set(more)) == len(ROWS) + 1, "equal rows are orders of their own"
    assert ids(written(tmp_path / "renamed.csv", WITHOUT_ID, *ROWS)) == first


def test_the_order_of_the_lines_makes_no_difference(tmp_path: Path) -> None:
    first = ids(written(tmp_path / "o.csv", WITHOUT_ID, *ROWS))
    shuffled = ROWS.copy()
    random.Random(1).shuffle(shuffled)
    assert sorted(ids(written(tmp_path / "o.csv", WITHOUT_ID, *shuffled))) == sorted(first)


def test_loading_the_file_with_a_line_more_doubles_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", WITHOUT_ID, *ROWS)
    both = list(read_orders(path, currency="EUR"))
    written(path, WITHOUT_ID, "c9,2026-01-01,1", *ROWS)
    both += read_orders(path, currency="EUR")
    folded = fold_events(both, Context(Economics(currency="EUR")), YEAR_END)
    assert (folded.accepted, folded.duplicates) == (len(ROWS) + 1, len(ROWS))


def test_the_same_said_differently_is_the_same_order(tmp_path: Path) -> None:
    one = ids(written(tmp_path / "o.csv", WITHOUT_ID, "c1,2026-01-03T10:00:00Z,10"))
    other = ids(written(tmp_path / "o.csv", WITHOUT_ID, "c1,2026-01-03T11:00:00+01:00,10.00"))
    assert one[0].rpartition("-")[0] == other[0].rpartition("-")[0]
