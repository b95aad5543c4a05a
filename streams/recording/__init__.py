"""Slices of topics in a file: recording them, and reading them back."""

from streams.recording.customers import OfCustomers, some_of
from streams.recording.format import End, Head, Recorded, RecordedTopic, RecordingUnusable, Span
from streams.recording.live import BEGINNING, END, Bound, live_slice
from streams.recording.pseudonyms import Pseudonyms
from streams.recording.reader import Recording
from streams.recording.recorder import NothingRecorded, Taken, record_slice

__all__ = [
    "BEGINNING",
    "END",
    "Bound",
    "End",
    "Head",
    "NothingRecorded",
    "OfCustomers",
    "Pseudonyms",
    "Recorded",
    "RecordedTopic",
    "Recording",
    "RecordingUnusable",
    "Span",
    "Taken",
    "live_slice",
    "record_slice",
    "some_of",
]
