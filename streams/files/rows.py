"""Rows of CSV, JSON Lines and Parquet files, one at a time."""

import csv
import gzip
import importlib
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from streams.bounded import TooLarge, lines, most_unpacked, opened
from streams.files.errors import InputFileError

SAMPLE_BYTES = 65_536
"""What `count_rows` reads: some thousand rows, enough for a progress bar."""

LARGEST_GZIP = 2**32 // 20
"""A gzip file knows its content's size modulo 4 GiB; text of orders shrinks at most 20 times."""

LONGEST_ROW = 4 * 1024 * 1024
"""Bytes of a line, and of a row of CSV that has several: an event has 1 MiB at most."""

BATCH_BYTES = 64 * 1024 * 1024
"""Bytes of rows of a Parquet file that are unpacked at a time."""

LARGEST_ROW_GROUP = 1024**3
"""Bytes of a row group of Parquet, unpacked, as it says of itself."""

DELIMITER = re.compile(r'"?sep=([,;\t|])"?\s*', re.IGNORECASE)
"""The first line that Excel writes, and reads, to say how cells are separated."""

BATCH_ROWS = 10_000
"""Rows of a Parquet file in memory at a time: some megabytes."""


class Row(NamedTuple):
    """One row: its values, or a `problem` and the line as it is in `raw`.

    A row of JSONL has both values and `raw`.
    """

    line: int
    values: Mapping[str, object]
    raw: bytes | None = None
    problem: str = ""


def file_format(path: Path) -> str:
    """Return "csv", "jsonl" or "parquet", by the file's name; raises InputFileError."""
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    if plain.endswith(".csv"):
        return "csv"
    if plain.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    if name.endswith(".parquet"):
        return "parquet"
    raise InputFileError(
        path, None, "not a format we read: .csv, .jsonl, .ndjson (each also .gz) or .parquet"
    )


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows; raises InputFileError when the file cannot be read on."""
    read = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[file_format(path)]
    with _named(path):
        yield from read(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputFileError(path, None, f"damaged gzip file: {error}") from error
    except TooLarge as error:
        raise InputFileError(path, None, f"too large: {error}") from error


def count_rows(path: str | Path) -> int | None:
    """Return the number of rows, None if finding out is not cheap.

    Exact for Parquet and small files, else an estimate by the length of the first rows.
    """
    path = Path(path)
    kind = file_format(path)
    if kind == "parquet":
        with _parquet_file(path) as file:
            return int(file.metadata.num_rows)
    size = path.stat().st_size
    if _is_gzip(path):
        if size > LARGEST_GZIP:
            return None
        with path.open("rb") as compressed:
            compressed.seek(-min(4, size), 2)
            size = int.from_bytes(compressed.read(4), "little")
    with _named(path), opened(path, packed=_is_gzip(path)) as file:
        sample = file.read(SAMPLE_BYTES)
    lines = sample.count(b"\n")
    if len(sample) < SAMPLE_BYTES:
        lines += not sample.endswith(b"\n") and len(sample) > 0
    else:
        lines = round(lines * size / len(sample))
    return max(0, lines - 1) if kind == "csv" else lines


def _csv(path: Path) -> Iterator[Row]:
    _check_line_ends(path)
    text = _Text(path)
    lines_of_text = iter(text)
    header_line, above = next(lines_of_text, ""), 1
    if told := DELIMITER.fullmatch(header_line):
        header_line, above = next(lines_of_text, ""), 2
    delimiter = told[1] if told else max(",;\t", key=header_line.count)
    try:
        header = next(csv.reader([header_line], delimiter=delimiter), [])
    except csv.Error as error:
        raise InputFileError(path, above, f"not CSV: {error}") from error
    if not header:
        raise InputFileError(path, None, "the file is empty; its first line must name columns")
    cells = csv.reader(lines_of_text, delimiter=delimiter)
    while True:
        text.row_begins()
        try:
            row = next(cells, None)
        except csv.Error as error:
            raise InputFileError(path, cells.line_num + above, f"not CSV: {error}") from error
        if row is None:
            return
        # What is above was read apart, so line numbers are short.
        line = cells.line_num + above
        if not any(row):
            # Spreadsheets write rows that were cleared.
            continue
        if len(row) == len(header):
            yield Row(line, dict(zip(header, row, strict=True)))
        else:
            problem = f"{len(row)} cells, but the header has {len(header)}; quote the cells"
            yield Row(line, {}, delimiter.join(row).encode(), problem)


def _check_line_ends(path: Path) -> None:
    with opened(path, packed=_is_gzip(path)) as file:
        sample = file.read(SAMPLE_BYTES)
    if b"\r" in sample and b"\n" not in sample:
        raise InputFileError(
            path,
            1,
            "lines end with a carriage return alone, as in a CSV file for old Macintoshes; save it "
            "as CSV UTF-8",
        )


class _Text:
    """The lines of a CSV file; those of one row are bounded together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._room = LONGEST_ROW

    def row_begins(self) -> None:
        """What follows is another row."""
        self._room = LONGEST_ROW

    def __iter__(self) -> Iterator[str]:
        encoding = "utf-8-sig"
        for number, line in enumerate(_lines(self._path), start=1):
            self._room -= len(line)
            if self._room < 0:
                raise InputFileError(
                    self._path,
                    number,
                    f"its row has more than {LONGEST_ROW:,} bytes, which are the most; is a "
                    "quotation mark left open?",
                )
            try:
                yield line.decode(encoding)
            except UnicodeDecodeError as error:
                raise InputFileError(
                    self._path, number, f"not UTF-8 ({error}); convert the file"
                ) from error
            encoding = "utf-8"


def _jsonl(path: Path) -> Iterator[Row]:
    # Decimal keeps amounts as they are written.
    decode = msgspec.json.Decoder(float_hook=Decimal).decode
    for number, line in enumerate(_lines(path), start=1):
        raw = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not raw:
            continue
        try:
            values = decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield Row(number, {}, raw, f"not JSON: {error}")
            continue
        if isinstance(values, dict):
            yield Row(number, values, raw)
        else:
            yield Row(number, {}, raw, "not a JSON object; write one {...} on each line")


def _parquet(path: Path) -> Iterator[Row]:
    number = 0
    with _parquet_file(path) as file:
        # Lists and structures are no cells of an order, and say for themselves how long they are.
        flat = [field.name for field in file.schema_arrow if not _types().is_nested(field.type)]
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=flat):
            rows = _rows_at_once(path, batch)
            for first in range(0, batch.num_rows, rows):
                for values in _microseconds(batch.slice(first, rows)).to_pylist():
                    number += 1
                    yield Row(number, values)


def _rows_at_once(path: Path, batch: Any) -> int:
    """How many rows of a batch are unpacked at a time: a text may stand there once for all."""
    compute = importlib.import_module("pyarrow.compute")
    longest = 1
    for column in batch.columns:
        if _types().is_dictionary(column.type):
            longest += compute.max(compute.binary_length(column.dictionary)).as_py() or 0
    if longest > LONGEST_ROW:
        raise InputFileError(
            path, None, f"a row has {longest:,} bytes, and {LONGEST_ROW:,} are the most"
        )
    return max(1, min(BATCH_ROWS, BATCH_BYTES // longest))


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """An open file that says no more of itself than it can hold; its texts are dictionaries."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise InputFileError(
            path, None, "Parquet needs pyarrow: pip install 'clv-streams[parquet]'"
        ) from error
    types = _types()
    kinds = (types.is_string, types.is_binary, types.is_large_string, types.is_large_binary)
    try:
        schema = parquet.read_schema(path)
        texts = [field.name for field in schema if any(is_a(field.type) for is_a in kinds)]
        file = parquet.ParquetFile(path, coerce_int96_timestamp_unit="us", read_dictionary=texts)
        _check_sizes(path, file.metadata)
        yield file
    except InputFileError:
        raise
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        raise InputFileError(path, None, f"not a readable Parquet file: {error}") from error


def _check_sizes(path: Path, metadata: Any) -> None:
    rows, most = metadata.num_rows, most_unpacked(path.stat().st_size)
    if not 0 <= rows <= most:
        raise InputFileError(path, None, f"says {rows} rows; one of its size has at most {most}")
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        sizes = [group.column(n).total_uncompressed_size for n in range(group.num_columns)]
        if min(sizes, default=0) < 0 or sum(sizes) > LARGEST_ROW_GROUP:
            raise InputFileError(
                path,
                None,
                f"row group {number} says {sum(sizes):,} bytes, and {LARGEST_ROW_GROUP:,} are the "
                "most; write smaller ones",
            )


def _types() -> Any:
    return importlib.import_module("pyarrow").types


def _microseconds(batch: Any) -> Any:
    """Return the batch with its timestamps in the unit of datetime."""
    arrow = importlib.import_module("pyarrow")
    schema = batch.schema
    for place, field in enumerate(schema):
        if arrow.types.is_timestamp(field.type):
            schema = schema.set(place, field.with_type(arrow.timestamp("us", field.type.tz)))
    return batch.cast(schema, safe=False)


def _lines(path: Path) -> Iterator[bytes]:
    return lines(path, LONGEST_ROW, packed=_is_gzip(path))


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
