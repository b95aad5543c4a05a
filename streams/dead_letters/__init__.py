"""Dead letters: reading them, judging them anew, correcting them, sending them again."""

from streams.dead_letters.corrections import Correction, CorrectionFailed, corrected
from streams.dead_letters.exported import ExportUnusable, line_of, writing
from streams.dead_letters.from_file import LettersFromFile
from streams.dead_letters.letter import Glance, Letter, glance, read_letter
from streams.dead_letters.reading import DeadLetters, Entry, LettersMissing
from streams.dead_letters.retry import Outcome, Retry, Sent
from streams.dead_letters.selection import Selection
from streams.dead_letters.verdict import Verdict, judge

__all__ = [
    "Correction",
    "CorrectionFailed",
    "DeadLetters",
    "Entry",
    "ExportUnusable",
    "Glance",
    "Letter",
    "LettersFromFile",
    "LettersMissing",
    "Outcome",
    "Retry",
    "Selection",
    "Sent",
    "Verdict",
    "corrected",
    "glance",
    "judge",
    "line_of",
    "read_letter",
    "writing",
]
