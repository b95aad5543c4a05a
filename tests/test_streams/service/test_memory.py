"""A compressed batch that unpacks too far is one dead letter, and takes bounded memory."""

import sys
from pathlib import Path

import pytest

from models.contracts.dead_letters import CUT, DeadLetter, split_headers
from streams.kafka.partitions import home_partition

from ..transport.packed import packed_batch, publish_batch
from .cluster import cluster
from .test_service import order

RECORDS = 300
RECORD_BYTES = 1_000_000
ALLOWANCE = 128 * 1024 * 1024
"""What the worst batch may take: 32 MiB twice while they are put together, and Python's heap."""


def peak(pid: int) -> int:
    """Bytes of memory that a process has had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("codec", ["gzip", "zstd"])
async def test_a_batch_that_unpacks_too_far_is_a_letter_and_the_partition_goes_on(
    codec, tmp_path: Path
):
    data = packed_batch(codec, RECORDS, bytes(RECORD_BYTES))
    async with cluster(tmp_path, "embedded") as service:
        topic = service.settings.topics.orders
        home = home_partition(b"c1", service.partitions)
        worker = await service.start_worker()
        await service.publish([order("c1", "before")])
        await service.settled()
        usual = peak(worker.process.pid)
        first = await publish_batch(service.broker.servers, topic, home, data)
        await service.publish([order("c1", "after"), order("c2", "elsewhere")])
        await service.settled()
        took = peak(worker.process.pid) - usual
        [letter] = await service.records(service.settings.topics.dead_letters)
        updates = await service.updates()
        assert await worker.stop() == 0
    told = DeadLetter.from_headers(list(split_headers(letter.headers).added.items()))
    last = first + RECORDS - 1
    assert (told.reason, told.topic, told.partition, told.offset) == (
        "too-large", topic, home, last,
    )  # fmt: skip
    for words in (f"{topic}[{home}]@{first} to @{last}", f"{RECORDS} records", codec):
        assert words in told.message
    # The broker writes the offset into the batch; the rest is as it was sent.
    assert letter.value[8:12] + letter.value[16:] == data[8:12] + data[16:]
    assert CUT not in dict(letter.headers)
    assert updates["c1"]["totals"]["orders"] == 2
    assert updates["c2"]["totals"]["orders"] == 1
    assert took < ALLOWANCE
