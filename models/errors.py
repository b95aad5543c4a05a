"""The root of all exceptions of this project."""


class ClvError(Exception):
    """An expected failure; the text says what failed, where, and what to do.

    Every exception that `models` and `streams` define derives from it, and keeps the built-in base
    that its callers rely on (`ValueError`, `AssertionError`). `clv` prints its text and exits with
    status 1.
    """
