"""Where logs go and what they look like."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from streams.addresses import without_logins
from streams.cli.repeats import BoundedHandler
from streams.text import traceback_lines, visible

_LIBRARIES = ("aiokafka", "faust", "mode", "kafka", "asyncio", "redis")


def _no_login(record: logging.LogRecord) -> bool:
    """Drop aiokafka's record of the requests that carry a password or a proof of one."""
    parts = record.args if isinstance(record.args, tuple) else ()
    return not any(type(part).__name__.startswith("SaslAuthenticate") for part in parts)


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Hides the passwords of URLs and options in whatever a library has to say."""

    def format(self, record: logging.LogRecord) -> str:
        return without_logins(super().format(record))


def _no_chatter(record: logging.LogRecord) -> bool:
    """Drop what only tells how libraries come and go.

    Every part of Faust says that it starts and stops ("[^-Part]: Starting..."). A broker without
    idempotence is an error to aiokafka; our producer tells it as a warning.
    """
    message = str(record.msg)
    coming_and_going = message.startswith("[^") and record.levelno < logging.WARNING
    return not coming_and_going and "InitProducerIdRequest" not in message


def _as_text(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Have everything that a line quotes shown as text."""
    for name, value in event.items():
        if name == "stack":
            event[name] = "\n".join(map(visible, str(value).split("\n")))
        elif isinstance(value, str):
            event[name] = visible(value)
        elif name != "exc_info" and not (shown := repr(value)).isprintable():
            event[name] = visible(shown)
    return event


def _traceback(stream: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    stream.write("\n" + "\n".join(traceback_lines(exc_info[1])))


def configure_logging(*, level: int = logging.INFO, verbose: bool = False) -> None:
    """Log to stderr: for people on a terminal, else one JSON object on each line.

    level: the least that our own modules say; the libraries say nothing below WARNING either.
    Equal warnings and errors are bounded, see `BoundedHandler`. verbose: everybody at DEBUG, and
    every line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Plain tracebacks: pretty ones print the values of variables, passwords among them. JSON
    # escapes what does not print by itself.
    renderer: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        renderer = [_as_text, structlog.dev.ConsoleRenderer(exception_formatter=_traceback)]
    else:
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr) if verbose else BoundedHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    handler.addFilter(_no_login)
    if not verbose:
        handler.addFilter(_no_chatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if verbose else level)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else max(level, logging.WARNING))
