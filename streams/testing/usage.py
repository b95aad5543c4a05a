"""What a test does with a service: the customers it touches, and the calls it must await."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

from models.errors import ClvError
from streams.testing import running_test


class NotAwaited(ClvError, AssertionError):
    """A test called a topology without `await`, so that nothing happened; the text says where."""


class FaultUnused(ClvError, AssertionError):
    """A test asked for a fault that never happened; the text says which."""


class OtherEventLoop(ClvError, AssertionError):
    """A topology was used from another event loop than the one that it was started in."""


class Usage:
    """What has been done with one service. service: noted with the running test.

    Made in the event loop of the service. touched: the customers that calls named, in their order.
    """

    def __init__(self, service: object) -> None:
        self.touched: dict[str, None] = {}
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._not_begun: dict[Call[Any], str] = {}
        running_test.note(service)

    def touch(self, customer: str) -> None:
        """Note a customer."""
        self.touched[customer] = None

    def called(self, call: Call[Any], where: str) -> None:
        """Note a call, not begun yet, and where it is made."""
        running_test.note(self._service)
        self._not_begun[call] = where

    def begun(self, call: Call[Any]) -> None:
        """Note that a call is awaited; OtherEventLoop if it is from another event loop."""
        __tracebackhide__ = True
        self._not_begun.pop(call, None)
        if asyncio.get_running_loop() is self._loop:
            return
        ended = ", which has ended" if self._loop.is_closed() else ""
        raise OtherEventLoop(
            f"this topology was started in another event loop{ended}, and works in that one only. "
            "Start it in the loop of the test, or give both the same: for a fixture of "
            'loop_scope="module" write @pytest.mark.asyncio(loop_scope="module") at its tests, and '
            'for the fixture `topology` set asyncio_default_fixture_loop_scope; see "One topology '
            'for several tests" in docs/replay.md'
        )

    def dropped(self, call: Call[Any]) -> None:
        """Note that a call was closed or cancelled before it began."""
        self._not_begun.pop(call, None)

    def take_not_awaited(self) -> NotAwaited | None:
        """Return the error for the calls that nobody has awaited, and forget them."""
        places = list(self._not_begun.values())
        for call in list(self._not_begun):
            call.close()
        if not places:
            return None
        return NotAwaited(
            f"called without `await`, so that nothing happened: {'; '.join(places)}. Write "
            "`await` before each call, in a test that is `async def`"
        )


Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])


class Call(Coroutine[Any, Any, Result]):
    """A call of a coroutine function, which tells the usage when it begins."""

    def __init__(self, usage: Usage, coroutine: Coroutine[Any, Any, Result], where: str) -> None:
        self._usage = usage
        self._coroutine = coroutine
        usage.called(self, where)

    def __await__(self) -> Generator[Any, Any, Result]:
        __tracebackhide__ = True
        self._begin()
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Go on, as a task does."""
        self._begin()
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error where the call waits."""
        self._usage.dropped(self)
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End the call."""
        self._usage.dropped(self)
        self._coroutine.close()

    def _begin(self) -> None:
        __tracebackhide__ = True
        try:
            self._usage.begun(self)
        except OtherEventLoop:
            self._coroutine.close()
            raise


def awaited(method: Method) -> Method:
    """Have a test fail that calls the method without `await`, or from another event loop.

    The method's object has its `Usage` as `_usage`.
    """

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Call[Any]:
        caller = sys._getframe(1)  # noqa: SLF001 - the line of the test
        where = f"{method.__name__}() in {Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
        return Call(self._usage, method(self, *args, **kwargs), where)

    return cast("Method", call)
