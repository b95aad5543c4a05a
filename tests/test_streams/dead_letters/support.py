"""Dead letters for tests: as a worker makes them, and as they are written to the topic by hand."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from models.contracts import Reason, Refused
from models.contracts.dead_letters import dead_letter_headers, noted
from models.documents import CONTENT_TYPE
from models.economics import Economics
from streams.cli.dead_letters import found_letters, letter_document, send_again
from streams.dead_letters.corrections import Correction
from streams.dead_letters.letter import read_letter
from streams.dead_letters.reading import DeadLetters
from streams.dead_letters.retry import Retry
from streams.dead_letters.selection import Selection, parse_place
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.kafka.writing import record_writer
from streams.settings import Settings
from tests.servers import forks
from tests.servers.broker import Kind
from tests.test_streams.service.cluster import ROOT, Cluster, cluster

RATE = Decimal("1.25")
TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)


def order(customer, order_id, currency="EUR", **changes):
    data = {
        "order_id": order_id, "customer_id": customer, "placed_at": TIME, "currency": currency,
        "total": "40.00",
    } | changes  # fmt: skip
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"e-{order_id}", time=TIME,
        data={name: value for name, value in data.items() if value is not None},
        customer_id=customer,
    )  # fmt: skip


def broken(value, key=b"c1"):
    return OutgoingEvent("orders", key, value, [CONTENT_TYPE], TIME)


async def clv(service: Cluster, *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end: status, stdout, stderr."""
    process = await start(service, *arguments)
    async with asyncio.timeout(180):
        printed, said = await process.communicate()
    assert b"Traceback" not in said, said.decode()
    assert process.returncode is not None
    return process.returncode, printed.decode(), said.decode()


async def start(service: Cluster, *arguments: str) -> forks.Forked:
    return await forks.start(
        sys.executable, "-m", "streams.cli", "dead-letters", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=ROOT, env=os.environ | service.environment(),
    )  # fmt: skip


EVERYTHING = Selection()


def configured(service: Cluster, **rates: Decimal) -> Settings:
    """The service's settings, with other exchange rates."""
    economics = service.settings.economics.model_copy(update={"exchange_rates": rates})
    return service.settings.model_copy(update={"economics": economics})


async def listed(service: Cluster, chosen=EVERYTHING, *, everything=False) -> dict:
    return await found_letters(service.settings, chosen, 20, everything)


async def shown(service: Cluster, letter: str, **rates: Decimal) -> dict:
    place = parse_place(letter, service.settings.topics.dead_letters)
    document, event = await letter_document(configured(service, **rates), place)
    return document | {"event": event}


async def retried(
    service: Cluster, *ids: str, fields=(), dry=False, force=False, source=None, **rates
) -> dict:
    places = frozenset(parse_place(each, service.settings.topics.dead_letters) for each in ids)
    corrections = [Correction.parse(field) for field in fields]
    told = await send_again(
        configured(service, **rates), Selection(places=places), corrections,
        dry=dry, force=force, source=source,
    )  # fmt: skip
    return told.document()


SLICE_SECONDS = 0.02


async def kill_once_noted(service: Cluster, command: asyncio.subprocess.Process) -> None:
    """Kill a command when it has noted its first letter as sent again.

    It runs in slices and stands still while its notes are read, so that it cannot finish meanwhile.
    """
    consumer = AIOKafkaConsumer(
        **service.broker.client_options(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        topic = service.settings.topics.dead_letters
        consumer.assign([TopicPartition(topic, n) for n in range(service.partitions)])
        async with asyncio.timeout(120):
            while not any(
                noted(record.headers)
                for records in (await consumer.getmany(timeout_ms=10)).values()
                for record in records
            ):
                command.send_signal(signal.SIGCONT)
                await asyncio.sleep(SLICE_SECONDS)
                command.send_signal(signal.SIGSTOP)
    finally:
        await consumer.stop()
    command.send_signal(signal.SIGKILL)
    await command.communicate()
    assert command.returncode == -signal.SIGKILL


def refused_headers(reason=Reason.NOT_JSON, headers=(), topic="shop.orders", partition=0, offset=0):
    refused = Refused(reason, "data.total", "data.total is 1; allowed: text")
    return dead_letter_headers(refused, headers, topic, partition, offset)


@asynccontextmanager
async def letters_at(tmp_path: Path, *records, broker: Kind = "embedded"):
    """A broker with these records (partition, key, value, headers) in the dead letters' topic.

    The header values "{orders}", "{clock}" and so on stand for the names of these topics.
    """
    async with cluster(tmp_path, broker, economics=Economics(currency="EUR")) as service:
        names = service.settings.topics.model_dump()
        meant = {f"{{{name}}}".encode(): topic.encode() for name, topic in names.items()}
        async with AIOKafkaProducer(**service.broker.client_options(), acks="all") as producer:
            for partition, key, value, headers in records:
                named = [(name, meant.get(content, content)) for name, content in headers]
                await producer.send_and_wait(
                    names["dead_letters"], value, key=key, partition=partition, headers=named
                )
        yield service


async def entries(service: Cluster):
    letters = DeadLetters(service.broker, service.settings.topics.dead_letters)
    await letters.prepare()
    return [entry async for entry in letters.entries()], letters


async def send(service: Cluster, **options):
    letters = DeadLetters(service.broker, service.settings.topics.dead_letters)
    counts = await letters.prepare()
    told = []
    async with record_writer(service.broker) as writer:
        retry = Retry(writer, service.settings, counts, **options)
        async for entry in letters.entries():
            told += await retry.add(entry)
        told += await retry.finish()
    return told


class Record:
    topic, partition, offset, timestamp = "clv.dead-letters", 1, 2, 1_000

    def __init__(self, value, headers=None, key=b"k"):
        self.key, self.value = key, value
        self.headers = refused_headers() if headers is None else headers


def letter_of(document, **changes):
    return read_letter(Record(json.dumps(document).encode(), **changes))
