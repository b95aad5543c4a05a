"""Two results of the same events: whose value differs, why, and by how much."""

import gzip
import json

import pytest

from models.economics import Economics
from streams.cli.replay.source import Asked, repeatable
from streams.outcome.outcome import Outcome
from streams.outcome.snapshot import SnapshotUnusable, read_snapshot
from streams.recording import BEGINNING, END
from streams.replay.memory import in_memory
from streams.settings import Settings
from tests.test_streams.commands import clv

from .support import PARAMETERS, TICK, some_events, write_events


def test_a_comparison_says_whose_value_differs_and_why(recording, tmp_path):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("[economics]\nmargin = 0.30\n")
    second.write_text("[economics]\nmargin = 0.60\n")
    same = clv("replay", "compare", recording, "--settings", first, first, "--json")
    done = clv("replay", "compare", recording, "--settings", first, second, "-n", "3", "--json")
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["differs"] is False
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["differs"] is True
    assert document["value"][1] - document["value"][0] == pytest.approx(document["by"])
    parts = [each["by"] for each in document["components"].values() if each["by"] is not None]
    assert sum(parts) == pytest.approx(document["by"])
    assert len(document["top"]) == 3
    sizes = [abs(each["by"]) for each in document["top"]]
    assert sizes == sorted(sizes, reverse=True)
    for each in document["top"]:
        a, b = each["components"]["margin so far"]
        assert 2 * a <= b + 0.01 < 2.2 * a
        assert "P(alive)" not in each["components"]
    told = clv("replay", "compare", recording, "--settings", first, second)
    assert f"{document['customers_that_differ']:,} customers differ" in told.stdout


def test_other_parameters_are_compared_with_the_recorded_ones(recording, tmp_path):
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    same.write_text(PARAMETERS.model_dump_json())
    changed = PARAMETERS.model_dump(mode="json") | {"version": "other"}
    changed["purchases"] = changed["purchases"] | {"alpha": 2.0}
    other.write_text(json.dumps(changed))
    command = ("replay", "compare", recording, "--json", "--parameters")
    equal = clv(*command, same)
    done = clv(*command, other)
    assert equal.returncode == 0, equal.stderr
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["components"].keys() >= {"expected purchases", "expected value"}
    assert "margin so far" not in document["components"]


@pytest.fixture(scope="module")
def kept(recording, tmp_path_factory):
    """What the recording comes to, kept by a replay."""
    path = tmp_path_factory.mktemp("kept") / "before.kept"
    done = clv("replay", "memory", recording, "--snapshot", path, "--json")
    assert done.returncode == 0, done.stderr
    return path


def test_what_was_kept_is_what_comes_again(recording, kept, tmp_path):
    again = tmp_path / "again.kept"
    clv("replay", "memory", recording, "--snapshot", again, "--speed", "1e12", "--json")
    done = clv("replay", "compare", recording, "--snapshot", kept, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["differs"] is False
    assert document["customers"][0] == document["customers"][1] > 0
    assert again.read_bytes() == kept.read_bytes()


def test_what_another_version_came_to_differs_by_customer(recording, kept):
    """Under another configuration, as another version might have it."""
    done = clv("replay", "compare", recording, "--snapshot", kept, CLV_ECONOMICS__MARGIN="0.6")
    assert done.returncode == 1, done.stderr
    assert "before.kept, by clv-streams" in done.stdout
    assert "margin so far" in done.stdout
    assert "lifecycle" not in done.stdout.partition("customers differ")[0]


def test_only_the_same_events_in_the_same_currency_are_compared(recording, kept, tmp_path):
    other = tmp_path / "other.clvrec"
    write_events(other, some_events(7), TICK, PARAMETERS, partitions=2)
    done = clv("replay", "compare", other, "--snapshot", kept)
    assert done.returncode == 1
    assert "is of other events, replayed from" in done.stderr
    done = clv("replay", "compare", recording, "--snapshot", kept, CLV_ECONOMICS__CURRENCY="EUR")
    assert done.returncode == 1
    assert "its values are in USD, and the shop's currency is EUR" in done.stderr


def test_other_changes_on_the_way_to_the_same_end_differ(recording, kept, tmp_path):
    other = tmp_path / "other.kept"
    lines = gzip.decompress(kept.read_bytes()).splitlines()
    end = json.loads(lines[-1])
    end["result"]["digests"]["changes"] = "another"
    other.write_bytes(gzip.compress(b"\n".join([*lines[:-1], json.dumps(end).encode()]) + b"\n"))
    done = clv("replay", "compare", recording, "--snapshot", other)
    assert done.returncode == 1
    assert "but not the changes of segment on the way there" in " ".join(done.stdout.split())


async def test_the_same_events_are_the_same_on_any_number_of_partitions(tmp_path):
    orders = tmp_path / "orders.csv"
    orders.write_text("customer_id,date,amount,currency\na,2026-01-02,5.00,USD\n")
    digests = set()
    for partitions in (1, 3):
        source = repeatable(Asked(str(orders), BEGINNING, END), Economics(), partitions)
        async with in_memory(Settings(partitions=partitions), source, Outcome()) as replay:
            await replay.run()
        digests.add(replay.input)
    assert len(digests) == 1


def test_nothing_that_exists_is_replaced_unless_it_is_asked_for(recording, kept, tmp_path):
    own, notes = tmp_path / "own.clvrec", tmp_path / "notes.txt"
    own.write_bytes(recording.read_bytes())
    notes.write_text("mine")
    for given, problem in (
        ([own, "--snapshot", own, "--force"], "that is what is replayed"),
        ([own, "--snapshot", notes], "use --force"),
        ([own, "--snapshot", tmp_path], "name a file"),
        ([own, "--snapshot", tmp_path / "no" / "a.kept"], "name a file"),
    ):
        done = clv("replay", "memory", *given)
        assert done.returncode == 1
        assert problem in " ".join(done.stderr.split())
    assert own.read_bytes() == recording.read_bytes()
    assert notes.read_text() == "mine"
    assert clv("replay", "memory", own, "--snapshot", notes, "--force").returncode == 0
    assert notes.read_bytes() != kept.read_bytes(), "it names another source"
    assert read_snapshot(notes)[1] == read_snapshot(kept)[1]


def test_no_bit_of_a_kept_result_may_be_another(kept, tmp_path):
    """Most bits of a file, each turned: refused, or read as what it was."""
    path, data = tmp_path / "flipped.kept", kept.read_bytes()
    _, true = read_snapshot(kept)
    for at in range(0, len(data), max(1, len(data) // 400)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            _, read = read_snapshot(path)
        except SnapshotUnusable:
            continue
        assert (read.documents, read.reasons) == (true.documents, true.reasons), at
    for cut in range(1, 9):
        path.write_bytes(data[:-cut])
        with pytest.raises(SnapshotUnusable):
            read_snapshot(path)


def damaged(data: bytes) -> bytes:
    return data[:200] + bytes([data[200] ^ 255]) + data[201:]


def with_lines(data: bytes, change) -> bytes:
    return gzip.compress(b"\n".join(change(gzip.decompress(data).splitlines())) + b"\n")


def newer(lines):
    head = {"format": "clv-replay-result", "version": 2, "program": "a newer one", "more": 1}
    return [json.dumps(head).encode(), *lines[1:]]


def without_update(lines):
    return [lines[0], b'{"key":"a","update":{},"reasons":{}}', *lines[2:]]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[: len(data) // 2], "is cut off, or damaged"),
        (damaged, "damaged"),
        (lambda data: with_lines(data, newer), "this program reads 1: use a newer one"),
        (lambda data: with_lines(data, without_update), "damaged"),
        (lambda data: with_lines(data, lambda lines: [*lines, b"{}"]), "does not end where"),
        (lambda data: with_lines(data, lambda lines: [*lines[:2], *lines[1:]]), "damaged"),
        (lambda _: b"customer,value\n", "is no snapshot of `clv replay memory`"),
        (lambda _: gzip.compress(b'{"a": 1}\n'), "is no snapshot of `clv replay memory`"),
        (lambda _: gzip.compress(b""), "is cut off"),
    ],
)
def test_a_file_that_is_no_kept_result_is_refused(recording, kept, tmp_path, change, problem):
    path = tmp_path / "changed.kept"
    path.write_bytes(change(kept.read_bytes()))
    done = clv("replay", "compare", recording, "--snapshot", path)
    assert done.returncode == 1
    assert "changed.kept: " in done.stderr
    assert problem in " ".join(done.stderr.split())
