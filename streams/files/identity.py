"""What makes two rows the same order: what they say, never where they are in a file."""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path

from models.calendar import milliseconds
from streams.files.cells import AMOUNTS, Cells
from streams.files.errors import InputFileError
from streams.files.values import PLAIN_AMOUNT, Amount

_BITS = 64
_MASK = (1 << _BITS) - 1


class OrderIds:
    """Makes the ids of orders whose rows have none; 100 bytes of memory for each row.

    Equal rows are numbered, so that each is an order of its own. The id depends neither on what
    other rows say nor on the name of the file.
    """

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()

    def of(self, cells: Cells) -> str:
        """Return the id for the next row with this customer, time, amount and currency."""
        values = cells.values
        time, amount = values.get("time"), _number(values.get("amount"))
        text = "\0".join(
            (
                values.get("customer_id", ""),
                str(milliseconds(time) if isinstance(time, datetime) else time),
                f"{amount.normalize():f}" if isinstance(amount, Decimal) else str(amount),
                str(values["currency"]),
            )
        )
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_BITS // 8).digest()
        identity = int.from_bytes(digest)
        self._seen[identity] += 1
        number = self._seen[identity]
        return f"row-{identity:016x}" + (f"-{number}" if number > 1 else "")


class OneRowEach:
    """Refuses an order that is on two rows with different content; 150 bytes for each order.

    The service would take the second row for the first one, said again, or for a correction of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[int, int] = {}
        """By the hash of an order's id: its line, and the hash of its content in the lower bits."""

    def check(self, cells: Cells) -> None:
        """Raise InputFileError, with both lines, if the file said something else of the order."""
        order_id, revision = cells.values["order_id"], cells.values.get("revision", 0)
        said = cells.values.copy()
        for name in AMOUNTS:
            if name in said:
                said[name] = _number(said[name])
        content = hash(frozenset(said.items())) & _MASK
        known = self._seen.setdefault(hash((order_id, revision)), cells.line << _BITS | content)
        if known & _MASK == content:
            return
        version = "" if "revision" not in cells.values else f" with revision {revision}"
        raise InputFileError(
            self._path,
            cells.line,
            f"order {order_id!r}{version} is on line {known >> _BITS} too, with different values, "
            "and one row must be one whole order: if they are its line items, add --line-items; if "
            "they are versions of it, number them in a column revision; if one is a refund, give "
            "it an id of its own",
        )


def _number(amount: Amount | None) -> Decimal | str | None:
    """Return an amount as a number, so that 40 and 40.00 are equal; what is none as it is."""
    if amount is None or not PLAIN_AMOUNT.fullmatch(amount.text or ""):
        return amount and amount.text
    return amount.signed()
