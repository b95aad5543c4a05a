"""The programs that are compared: what each is called, how it starts, and what it answers for."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from benchmarks.contenders import kafka_streams
from benchmarks.contenders.settings import BrokerKind

ROOT = Path(__file__).resolve().parents[2]
COMPILED = ROOT / "build" / "compiled"
"""A copy of `models` compiled by mypyc, as `make compiled` makes it."""


@dataclass(frozen=True)
class Contender:
    """A program that reads events.

    answers: where its totals are: in the last update of each customer, or in its last line.
    per_event: whether it publishes an update for each event, not the last of several.
    commits_early: whether it commits before it publishes; its outputs tell when it is done.
    processes: how many share the partitions. brokers: those it runs on. events: how many it gets.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    events: int
    answers: Literal["updates", "documents", "log"] = "updates"
    per_event: bool = False
    commits_early: bool = False
    needs: tuple[str, ...] = ()
    is_java: bool = False
    processes: int = 1
    brokers: tuple[BrokerKind, ...] = ("embedded", "kafka")
    environment: Mapping[str, str] = field(default_factory=dict)
    interpreter: str = sys.executable

    def missing(self, broker: BrokerKind) -> str | None:
        """Return why it cannot run here, in words; None if it can."""
        if broker not in self.brokers:
            return f"{self.name} does not run on the broker '{broker}'"
        if str(COMPILED) in self.environment.get("PYTHONPATH", "") and not COMPILED.is_dir():
            return f"{self.name} needs the compiled core: make compiled"
        if self.is_java:
            return kafka_streams.missing_reason()
        if self.interpreter == sys.executable:
            for module in self.needs:
                if find_spec(module) is None:
                    return f"{self.name} needs the module {module}: install the extra 'bench'"
        return None

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [self.interpreter, *self.arguments]


def _java(name: str, title: str, *arguments: str) -> Contender:
    # Tansu closes the connection of its coordinator client without an answer.
    return Contender(
        name,
        f"Kafka Streams, {title}",
        ("-m", "benchmarks.contenders.kafka_streams", *arguments),
        200_000,
        is_java=True,
        brokers=("kafka",),
    )


_OURS = ("-m", "benchmarks.contenders.ours")
_BARE = ("-m", "benchmarks.contenders.bare")

CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("ours", "our worker", _OURS, 100_000, "documents"),
        Contender(
            "ours-compiled",
            "our worker, compiled",
            _OURS,
            100_000,
            "documents",
            environment={"PYTHONPATH": f"{COMPILED}{os.pathsep}{ROOT}"},
        ),
        Contender("ours-2", "our worker, two of them", _OURS, 100_000, "documents", processes=2),
        Contender(
            "faust",
            "idiomatic Faust app",
            # At quieter levels Faust's spinner costs several log records per event.
            (
                "-m", "benchmarks.contenders.idiomatic_faust",
                "worker", "--without-web", "--loglevel=info",
            ),
            10_000,
            per_event=True,
        ),
        Contender(
            "quix",
            "Quix Streams app",
            ("-m", "benchmarks.contenders.quix_streams"),
            100_000,
            per_event=True,
            needs=("quixstreams",),
        ),
        _java("kstreams", "RocksDB", "rocksdb", "at_least_once"),
        _java("kstreams-memory", "in memory", "memory", "at_least_once"),
        _java("kstreams-eos", "RocksDB, exactly once", "rocksdb", "exactly_once_v2"),
        _java(
            "kstreams-memory-eos", "in memory, exactly once", "memory", "exactly_once_v2"
        ),
        Contender(
            "recompute",
            "lifetimes at each event",
            ("-m", "benchmarks.contenders.recompute"),
            1_000,
            per_event=True,
            needs=("lifetimes", "confluent_kafka"),
        ),
        Contender("decode", "decode only", _BARE, 200_000, "log", needs=("confluent_kafka",)),
        Contender(
            "produce",
            "decode and produce",
            (*_BARE, "produce"),
            200_000,
            "log",
            per_event=True,
            needs=("confluent_kafka",),
        ),
        Contender(
            "pathway",
            "Pathway",
            ("-m", "benchmarks.contenders.pathway_app"),
            100_000,
            commits_early=True,
            needs=("pathway",),
            interpreter=os.environ.get("BENCH_PATHWAY_PYTHON", sys.executable),
        ),
    )
}  # fmt: skip
