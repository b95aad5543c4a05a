"""What comes from outside is shown as text: nothing of it styles, links, moves or hides."""

import ast
import asyncio
import io
import json
import logging
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
import structlog
from rich.table import Table

from models.contracts import Reason, Refused
from models.contracts.dead_letters import dead_letter_headers
from streams.cache import CachedScore, ScoreCache, connect
from streams.cli.console import TextConsole, print_json, progress_bars
from streams.cli.dead_letters import export_letters, found_letters, letter_document, send_again
from streams.cli.dead_letters_report import counts_table, letter_lines, print_letter
from streams.cli.logs import configure_logging
from streams.dead_letters.selection import Selection
from streams.embedded import embedded_servers
from streams.recording import Head, RecordedTopic
from streams.recording.writer import recording_writer
from streams.text import json_text, traceback_lines, visible
from tests.servers.scores import put

from .commands import ROOT, clv
from .dead_letters.support import letters_at
from .recording.support import Making

HOSTILE = {
    "markup that closes nothing": "[/x]",
    "a link": "[link=https://evil.example]free[/link]",
    "an emoji": ":bomb:",
    "an escape sequence": "\x1b[2J\x1b]0;owned\x07",
    "one of C1": "\x9b31m",
    "another line": "a\nerror: b\r\x0b",
    "another direction": "\u202eanna\u2066\u2069\u200f\u061c",
    "nothing to see": "a\u200b\ufeff\u2060b\x7f",
    "a lone surrogate": "a\udc9bb",
}
ALL = "".join(HOSTILE.values())
FROM_FILES = ALL.replace(HOSTILE["a lone surrogate"], "")
"""What can stand in UTF-8."""


def assert_text(*texts: str) -> None:
    for text in texts:
        assert not [each for each in text if not each.isprintable() and each != "\n"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_does_not_print_is_shown_as_python_writes_it(name):
    shown = visible(HOSTILE[name])
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("unicode_escape") == HOSTILE[name]


def test_what_prints_stays_as_it_is():
    text = "Zoë 東京 [b]bold[/b] C:\\temp"
    assert visible(text) is text


@pytest.mark.parametrize("name", HOSTILE)
def test_json_escapes_the_same_and_reads_back(name):
    text = json_text({HOSTILE[name]: [HOSTILE[name]], "name": "Zoë"}, indent=2)
    assert_text(text)
    assert "Zoë" in text
    assert json.loads(text) == {HOSTILE[name]: [HOSTILE[name]], "name": "Zoë"}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_string_of_a_table_is_text_on_a_terminal(name):
    text = HOSTILE[name]
    printed = io.StringIO()
    console = TextConsole(file=printed, force_terminal=True, no_color=True, width=400)
    table = Table(title=f"t {text}", caption=f"c {text}")
    table.add_column(f"h {text}")
    table.add_row(f"r {text}")
    console.print(table)
    console.print(f"p {text}", f"q {text}", style="bold", soft_wrap=True)
    lines = printed.getvalue()
    # Of styles only ours: bold and italic, and their end.
    for ours in ("\x1b[1m", "\x1b[3m", "\x1b[2;3m", "\x1b[2m", "\x1b[0m"):
        lines = lines.replace(ours, "")
    assert_text(lines)
    for mark in "tchrpq":
        assert f"{mark} {visible(text)}" in lines


def test_a_progress_bar_shows_the_name_of_a_file_as_text():
    drawn = io.StringIO()
    console = TextConsole(file=drawn, force_terminal=True, no_color=True, width=400)
    with patch("streams.cli.console.err", console), progress_bars() as bars:
        bars.add_task(f"Reading {ALL}", total=1, note=f"of {ALL}", completed=1)
    assert f"Reading {visible(ALL)}" in drawn.getvalue()
    assert f"of {visible(ALL)}" in drawn.getvalue()
    assert "evil.example\x1b" not in drawn.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_log_of_a_terminal_quotes_as_text():
    said = _Terminal()
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        with redirect_stderr(said), patch.dict("os.environ", {"NO_COLOR": "1"}):
            configure_logging()
            log = structlog.get_logger("here")
            log.warning(f"about {ALL}", value=ALL, many=[ALL], error=_Odd(ALL))
            logging.getLogger("aiokafka").error("topic %s", ALL)
            try:
                raise ValueError(f"no {ALL}")
            except ValueError:
                log.exception("failed")
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    lines = said.getvalue()
    for ours in ("\x1b[0m", "\x1b[1m", "\x1b[2m", *(f"\x1b[{n}m" for n in range(30, 38))):
        lines = lines.replace(ours, "")
    assert_text(lines)
    assert f"about {visible(ALL)}" in lines
    assert f"topic {visible(ALL)}" in lines
    assert f"ValueError: no {visible(ALL)}" in lines


class _Odd:
    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def test_a_traceback_has_no_line_that_an_error_text_made():
    try:
        raise ValueError("x\nerror: y\x1b")
    except ValueError as error:
        lines = traceback_lines(error)
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == r"ValueError: x\nerror: y\x1b"
    assert_text(*lines)


def test_a_fault_of_ours_ends_with_its_traceback_as_text():
    with patch("streams.cli.show.load_settings", side_effect=RuntimeError(f"broken {ALL}")):
        done = clv("top")
    assert done.returncode == 1
    assert f"RuntimeError: broken {visible(ALL)}" in done.stderr
    assert_text(done.stderr)


@pytest.mark.parametrize("arguments", [(f"--{ALL}",), ("top", "-n", ALL), (ALL,), ("show",), ()])
def test_wrong_usage_is_told_as_text(arguments):
    done = clv(*arguments)
    assert done.returncode == 2
    assert_text(done.stderr, done.stdout)
    assert "Usage" in done.stderr


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """Orders of a customer whose id is hostile, in a file whose name is."""
    path = tmp_path / f"{FROM_FILES.replace('/', '')}.csv"
    customer = FROM_FILES.replace("\n", "").replace("\r", "")
    path.write_text(
        f"customer_id,date,amount\n{customer},2026-01-01,10.00\nanna,2026-01-02,5\n", newline=""
    )
    return path


@pytest.mark.parametrize(
    "command",
    [
        ("score",),
        ("score", "--format", "json"),
        ("fit",),
        ("replay", "memory"),
        ("replay", "memory", "--step"),
        ("replay", "memory", "--step", "--json"),
        ("score", "--parameters", "{file}"),
        ("replay", "compare", "--snapshot", "{file}"),
        ("replay", "compare", "--parameters", "{file}"),
        ("replay", "compare", "--settings", "{file}", "{file}"),
        ("replay", "memory", "--snapshot", "{file}/x"),
        ("dead-letters", "export"),
        ("backfill",),
    ],
    ids=" ".join,
)
def test_a_file_is_told_of_as_text(orders, command):
    given = [part.replace("{file}", str(orders)) for part in command]
    with (
        patch("sys.stdin", io.StringIO("q\n")),
        patch.object(import_module("streams.cli.score"), "on_terminal", lambda: True),
    ):
        words = 2 if given[0] in ("dead-letters", "replay") else 1
        done = clv(
            *given[:words], orders, *given[words:],
            CLV_BROKER="127.0.0.1:1", CLV_ECONOMICS__CURRENCY="EUR",
            CLV_ECONOMICS__TIMEZONE="UTC",
        )  # fmt: skip
    assert_text(done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


def test_a_row_that_makes_no_event_is_quoted_as_text(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text(f"customer_id,date,amount,{FROM_FILES[:40]!r}\nanna,2026-01-01,\x1b[2J,1\n")
    done = clv("score", path, "--currency", "EUR")
    assert done.returncode == 1
    assert r"\x1b[2J" in done.stderr
    assert_text(done.stderr)
    done = clv("score", path, "--currency", "EUR", "--keep-going")
    assert done.returncode == 1
    assert_text(done.stderr)


def test_settings_are_echoed_as_text(tmp_path):
    config = tmp_path / "clv.toml"
    config.write_text(f"partitions = {json.dumps(FROM_FILES)}\n{json.dumps(FROM_FILES)} = 1\n")
    for command in ("doctor", "top", "worker"):
        done = clv(command, CLV_CONFIG=str(config))
        assert done.returncode == 1
        assert_text(done.stdout, done.stderr)
        assert visible(HOSTILE["a link"]) in done.stdout + done.stderr
    done = clv("doctor", CLV_STATE_DIR=str(tmp_path / FROM_FILES.replace("/", "")))
    assert_text(done.stdout, done.stderr)
    assert visible(HOSTILE["an escape sequence"]) in done.stdout


def test_the_head_of_a_recording_is_shown_as_text(tmp_path):
    path = tmp_path / "a.clvrec"
    topics = (RecordedTopic("orders", FROM_FILES, 1), RecordedTopic(FROM_FILES, FROM_FILES, 1))
    making = Making(1)
    for known in (1, 2):
        head = Head(recorded_at=0, topics=topics[:known], spans=(), since=FROM_FILES)
        with recording_writer(path, head) as writer:
            record = making.record("orders", 0, -5, FROM_FILES.encode(), FROM_FILES.encode())
            writer.add(of_first_topic(record))
            writer.finish()
        done = clv("replay", "memory", path)
        assert done.returncode == 1
        assert visible(FROM_FILES) in done.stderr
        assert_text(done.stdout, done.stderr)


def of_first_topic(record):
    return msgspec.structs.replace(record, topic=0)


@pytest.fixture(scope="module")
def redis():
    """A Redis that knows a customer whose id and segments are hostile."""

    async def serve(ready, over):
        async with embedded_servers(broker=False) as servers:
            client = connect(servers.redis.url)
            await put(ScoreCache(client), [hostile_score()])
            await client.aclose()
            ready(servers.redis.url)
            await over.wait()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        over, url = asyncio.Event(), loop.create_future()
        task = loop.create_task(serve(url.set_result, over))
        yield loop.run_until_complete(url)
        over.set()
        loop.run_until_complete(task)


def hostile_score() -> CachedScore:
    numbers = dict.fromkeys(
        ("total", "margin", "cost_to_serve", "acquisition_cost", "orders", "purchases",
         "purchase_value", "margin_per_purchase", "frequency", "recency", "T", "purchase_days",
         "gross", "refunded", "contacts", "complaints", "revenue"), 1.0,
    )  # fmt: skip
    segments = {"lifecycle": FROM_FILES, FROM_FILES: FROM_FILES}
    data = {
        "customer_id": FROM_FILES, "currency": FROM_FILES, "clv": 1.0, "p_alive": 0.5,
        "realised": numbers, "expected": numbers, "totals": numbers, "statistics": numbers,
        "levers": {FROM_FILES: 1.0}, "windows": {FROM_FILES: numbers}, "segments": segments,
        "as_of": FROM_FILES, "version": FROM_FILES,
        "model": {"name": FROM_FILES, "version": FROM_FILES},
    }  # fmt: skip
    document = json.dumps({"data": data}).encode()
    return CachedScore(FROM_FILES, 1, 1.0, (("lifecycle", FROM_FILES),), document)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "command",
    [("top",), ("segments",), ("formula", "segments"), ("show", FROM_FILES), ("show", "x")],
)
def test_a_customer_of_any_name_is_shown_as_text(redis, command, as_json):
    with patch("streams.cli.console.WIDTH", 2_000):
        done = clv(*command, *(["--json"] if as_json else []), CLV_REDIS=redis)
    assert_text(done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    if command == ("show", "x"):
        assert done.returncode == 1
        return
    assert done.returncode == 0, done.stderr
    if as_json:
        json.loads(done.stdout)
    else:
        assert visible(FROM_FILES) in done.stdout


async def test_dead_letters_are_shown_as_text(tmp_path, capsys):
    refused = Refused(Reason.NOT_JSON, FROM_FILES, FROM_FILES)
    headers = dead_letter_headers(refused, [(FROM_FILES, FROM_FILES.encode())], "shop.orders", 0, 0)
    letter = (0, FROM_FILES.encode(), FROM_FILES.encode(), headers)
    event = json.dumps({"data": {"customer_id": FROM_FILES}, FROM_FILES: FROM_FILES}).encode()
    file = tmp_path / "letters.jsonl"
    async with letters_at(tmp_path, letter, (0, b"k", event, headers)) as service:
        settings = service.settings
        listed = await found_letters(settings, Selection(), 20, False)
        letters = [await letter_document(settings, (0, number)) for number in (0, 1)]
        told = await send_again(settings, Selection(), [], dry=True, force=False)
        await export_letters(settings, Selection(), file, False)
    console = TextConsole(highlight=False, width=4_000)
    console.print(counts_table(listed))
    for line in letter_lines(listed["letters"], 4_000):
        console.print(line, soft_wrap=True)
    for document, content in letters:
        print_letter(document, content)
        print_json(document)
    told.print()
    print_json(told.document())
    printed, said = capsys.readouterr()
    assert_text(printed, said, file.read_text())
    assert printed.count(visible(FROM_FILES)) > 5
    assert len(told.named) == len(listed["letters"]) == 2


@pytest.mark.parametrize("arguments", [("list", "--reason", ALL), ("show", ALL), ("retry", ALL)])
def test_what_is_asked_of_dead_letters_is_told_as_text(arguments):
    done = clv("dead-letters", *arguments, CLV_BROKER="127.0.0.1:1")
    assert done.returncode == 1
    assert_text(done.stdout, done.stderr)


def sources():
    return sorted((ROOT / "streams").rglob("*.py")) + sorted((ROOT / "examples").rglob("*.py"))


PRINTING = {"streams/cli/console.py"}
"""Where rich is put together and streams are written to."""

LOGGING = {"streams/cli/logs.py", "streams/cli/repeats.py"}
"""Where the log's handler is made."""

ANSWERING = {"streams/serving/answering.py"}
"""Processes whose standard output is a pipe to the process that started them."""


def test_only_the_console_and_the_log_write_to_a_terminal():
    found = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        if name in PRINTING or name == "examples/who_changed.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            written = _writes(node)
            allowed = name in LOGGING and written == "StreamHandler"
            allowed |= name in ANSWERING and written == "sys.stdout.buffer.write"
            if written and not allowed:
                found.append(f"{name}:{node.lineno}: {written}")
    assert not found, "print through streams/cli/console.py: " + "; ".join(found)


def _writes(node: ast.AST) -> str:
    """What a node prints with that is not of the console; empty for what does not print."""
    if isinstance(node, ast.ImportFrom) and node.module:
        top = node.module.partition(".")[0]
        if (top == "rich" and node.module != "rich.table") or top == "click":
            return f"from {node.module}"
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.partition(".")[0] in {"rich", "click"}:
                return f"import {alias.name}"
    if isinstance(node, ast.Name) and node.id in {"print", "pprint"}:
        return node.id
    if isinstance(node, ast.Attribute):
        if node.attr in {"echo", "secho", "echo_via_pager", "StreamHandler", "from_markup"}:
            return node.attr
        if node.attr in {"write", "writelines"} and "sys." in ast.unparse(node.value):
            return ast.unparse(node)
    return ""


def test_what_an_example_prints_of_a_customer_is_text():
    tree = ast.parse((ROOT / "examples" / "who_changed.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue):
            assert ast.unparse(node.value) not in {"customer", "name", "topic.role", "topic.name"}
