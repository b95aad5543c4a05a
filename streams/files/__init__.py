"""Files of orders become events: CSV, JSON Lines and Parquet."""

from streams.files.errors import InputFileError
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.files.reader import read_orders
from streams.files.rows import count_rows

__all__ = ["InputFileError", "OutgoingEvent", "cloud_event", "count_rows", "read_orders"]
