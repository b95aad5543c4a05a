"""What a topology raises."""

from __future__ import annotations

from unittest import SkipTest


class WorkerCrashed(Exception):
    """A worker of the topology crashed; its error is the cause.

    A test that means it to asks `await topology.crash()`.
    """


class NotSettled(AssertionError):
    """There are records that nobody works on, or that nobody acknowledges; the text names them."""


class NotPublished(AssertionError):
    """What the test asks for was not published; the text says what was."""


class MemoryOnly(SkipTest):
    """A fault that only a simulated broker has on request: on a real one the test is skipped."""
