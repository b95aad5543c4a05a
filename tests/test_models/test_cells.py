"""Counted cells: the same information as the rows they count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.btyd import BgNbd, Cells, SpendCells

row = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)).map(
    lambda r: (r[0], r[1] if r[0] else 0, r[1] + r[2])
)
rows = st.lists(row, max_size=40)


def counted(population):
    columns = zip(*population, strict=True) if population else ([], [], [])
    return Cells.count(*columns)


def as_dict(cells):
    return dict(
        zip(zip(cells.x, cells.t_x, cells.T, strict=True), cells.number.tolist(), strict=True)
    )


@given(rows)
def test_every_row_is_counted_once(population):
    cells = counted(population)
    assert cells.customers == len(population)
    assert as_dict(cells) == {r: population.count(r) for r in population}


@given(rows.filter(bool))
def test_whole_days_are_sorted_as_any_numbers_are(population):
    """Whole numbers are sorted by one key, halves column by column."""
    x, t_x, T = (np.array(column, dtype=float) for column in zip(*population, strict=True))
    whole, halves = Cells.count(x, t_x, T), Cells.count(x, t_x / 2, T / 2)
    assert as_dict(whole) == {
        (a, 2 * b, 2 * c): number for (a, b, c), number in as_dict(halves).items()
    }
    cells = list(zip(whole.x, whole.t_x, whole.T, strict=True))
    assert cells == sorted(cells)


@given(rows, rows)
def test_counting_parts_again_is_counting_the_whole(left, right):
    parts = [counted(left), counted(right)]
    joined = Cells.count(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("x", "t_x", "T", "number")
        )
    )
    assert as_dict(joined) == as_dict(counted(left + right))


@given(rows.filter(bool))
def test_cells_have_the_likelihood_of_their_rows(population):
    model = BgNbd(r=0.5, alpha=3, a=0.7, b=2)
    mean, _ = model.mean_log_likelihood(counted(population))
    each = model.log_likelihood(*zip(*population, strict=True))
    assert mean == pytest.approx(float(np.mean(each)))


def test_numbers_too_large_for_one_key_are_counted_too():
    huge = [1.0, 3e9, 9e18]
    cells = Cells.count([1, 1, 1, 1], [1, 1, 2, 1], [*huge, huge[0]])
    assert cells.number.tolist() == [2, 1, 1]


def test_cells_are_read_only():
    cells = Cells.count([1], [2], [3])
    with pytest.raises(ValueError, match="read-only"):
        cells.x[0] = 9


def test_cells_of_nobody_are_left_out():
    assert Cells.count([1, 2], [2, 2], [3, 3], [0, 4]).x.tolist() == [2]


@pytest.mark.parametrize("number", [-1, 0.5, float("nan")])
def test_a_number_of_customers_is_whole(number):
    with pytest.raises(ValueError, match=r"row 0.*whole"):
        Cells.count([1], [2], [3], number)


def test_spend_is_counted():
    cells = SpendCells.count([2, 1, 2], [9.5, 3, 9.5])
    assert cells.customers == 3
    assert list(zip(cells.x, cells.m, cells.number, strict=True)) == [(1, 3, 1), (2, 9.5, 2)]


@pytest.mark.parametrize(
    ("x", "m", "problem"),
    [(0, 5, "only repeat buyers"), (1, 0, "positive order value"), (1, -3, "positive order value"),
     (1, float("nan"), "positive order value")],
)  # fmt: skip
def test_spend_without_a_positive_repeat_value_is_refused(x, m, problem):
    with pytest.raises(ValueError, match=f"row 1.*{problem}"):
        SpendCells.count([1, x], [1, m])
