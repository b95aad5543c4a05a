"""Slices of topics in a file, and back: recording, replaying, and comparing what came of it."""

from streams.recording.bounds import BEGINNING, END, Bound
from streams.recording.customers import OfCustomers
from streams.recording.digest import Result, Results
from streams.recording.format import (
    End,
    Head,
    Recorded,
    RecordedTopic,
    RecordingUnusable,
    Span,
)
from streams.recording.live import LiveSlice, TopicsSilent, Waiting, live_slice
from streams.recording.merge import Place, merged
from streams.recording.orders import FromOrders
from streams.recording.outcome import OUTCOME, read_results
from streams.recording.pace import Pace
from streams.recording.placing import Placing
from streams.recording.pseudonyms import Pseudonyms
from streams.recording.reader import Recording, verify
from streams.recording.recorder import Taken, record_slice
from streams.recording.source import FromFile, FromTopics, ReplayFailed, Source
from streams.recording.writer import RecordingWriter, RecordTooLarge

__all__ = [
    "BEGINNING",
    "END",
    "OUTCOME",
    "Bound",
    "End",
    "FromFile",
    "FromOrders",
    "FromTopics",
    "Head",
    "LiveSlice",
    "OfCustomers",
    "Pace",
    "Place",
    "Placing",
    "Pseudonyms",
    "RecordTooLarge",
    "Recorded",
    "RecordedTopic",
    "Recording",
    "RecordingUnusable",
    "RecordingWriter",
    "ReplayFailed",
    "Result",
    "Results",
    "Source",
    "Span",
    "Taken",
    "TopicsSilent",
    "Waiting",
    "live_slice",
    "merged",
    "read_results",
    "record_slice",
    "verify",
]
