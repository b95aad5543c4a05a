"""What `clv partitions grow` refuses, and what it says then."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.aggregate.record import Change, CustomerRecord, OutboxEntry, encode_record
from models.contracts.clock import Tick
from streams.growing.group import group_held
from streams.growing.stage import GrowthRefused
from streams.growing.survey import look
from streams.kafka.clients import started
from streams.kafka.partitions import home_partition
from streams.kafka.topics import partition_counts
from streams.topics import changelog_topic
from tests.test_streams.commands import started as run_to_end
from tests.test_streams.service.cluster import cluster

from .support import NAMES, found_for, grown, note_bases, order, written


async def command(*arguments, **variables):
    """What the command prints; it runs as a process, so that signals and loops are its own."""
    done = await asyncio.to_thread(run_to_end, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def command_refused(*arguments, **variables):
    """What the command says when it refuses, on one line."""
    done = await asyncio.to_thread(run_to_end, *arguments, **variables)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


async def store(service, customer, **more):
    """A customer's record, as a worker leaves it."""
    record = encode_record(CustomerRecord(version=1, **more))
    await written(service, changelog_topic(service.settings), customer.encode(), record)


async def commit(service, topic, partition, offset):
    """What a worker commits."""
    tp = TopicPartition(topic, partition)
    client = AIOKafkaConsumer(
        bootstrap_servers=service.broker.servers, group_id=service.settings.app_id,
        enable_auto_commit=False,
    )  # fmt: skip
    async with started(client) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: offset})


async def counts(service):
    return {
        count
        for topic, count in (await partition_counts(service.broker)).items()
        if topic.endswith(service.settings.app_id.removeprefix("clv-"))
        and topic != service.settings.topics.models
    }


async def test_the_embedded_broker_cannot_and_says_what_to_do(tmp_path):
    async with cluster(tmp_path) as service:
        said = await command_refused("partitions", "grow", 8, **service.environment())
    assert "this broker cannot give a topic more partitions" in said
    assert "CLV_PARTITIONS" in said


@pytest.mark.kafka
async def test_an_outbox_that_may_not_be_delivered_is_refused_and_one_that_is_moves(tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        orders = service.settings.topics.orders
        entry = OutboxEntry(1, 0, f"{orders}/2", 7, changes=(Change("tier", None, "gold"),))
        await note_bases(service)
        await store(service, NAMES[0], outbox=(entry,))
        await store(service, NAMES[1])
        partition = home_partition(NAMES[0].encode(), 4)
        for committed in (None, 7):
            if committed is not None:
                await commit(service, orders, 2, committed)
            with pytest.raises(GrowthRefused) as caught:
                await grown(service, 8)
            assert "did not stop cleanly" in str(caught.value)
            assert f"1 customers in partitions {partition} " in str(caught.value)
            assert NAMES[0] not in str(caught.value)
        assert await counts(service) == {4}
        await commit(service, orders, 2, 8)
        await grown(service, 8)


@pytest.mark.kafka
async def test_ticks_that_are_not_done_are_refused(tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        await service.tick(Tick(as_of=datetime(2026, 1, 1, tzinfo=UTC)))
        with pytest.raises(GrowthRefused, match="4 ticks are not done yet"):
            await found_for(service, 8)
        for partition in range(4):
            await commit(service, service.settings.topics.clock, partition, 1)
        await found_for(service, 8)


@pytest.mark.kafka
async def test_customers_without_a_basis_are_refused(tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        await store(service, NAMES[0])
        with pytest.raises(GrowthRefused, match="start the workers of this version once"):
            await found_for(service, 8)


@pytest.mark.kafka
async def test_missing_topics_are_refused(tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        topics = service.settings.topics.model_copy(update={"clock": "clv.clock.of-nobody"})
        settings = service.settings.model_copy(update={"topics": topics})
        with pytest.raises(GrowthRefused, match=r"no topic clv\.clock\.of-nobody"):
            await look(settings, service.broker, 8)


@pytest.mark.kafka
async def test_while_it_holds_the_group_no_worker_joins_and_no_other_growth(tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        async with group_held(service.settings, service.broker) as held:
            worker = await service.start_worker()
            assert await worker.process.wait() == 1
            assert "InconsistentGroupProtocol" in worker.log.read_text()
            short = service.settings.model_copy(update={"session_timeout": 1.0})
            with pytest.raises(GrowthRefused, match="another `clv partitions grow`"):
                async with group_held(short, service.broker):
                    pass
            held.check()
        service.workers.clear()
        await service.start_worker()
        await service.publish([order(NAMES[0], "o1")])
        await service.settled()


@pytest.mark.kafka
async def test_the_command_says_what_it_will_do_and_refuses_while_workers_run(tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        env = service.environment()
        worker = await service.start_worker()
        await service.publish([order(name, f"{name}/1") for name in NAMES])
        await service.settled()
        said = await command_refused("partitions", "grow", 6, **env)
        assert f"group {service.settings.app_id} has 1 workers: stop them" in said
        assert await worker.stop() == 0
        moving = sum(home_partition(n.encode(), 4) != home_partition(n.encode(), 6) for n in NAMES)
        planned = await command("partitions", "grow", 6, "--dry-run", "--json", **env)
        assert planned["customers"] == 300
        assert planned["customers_to_move"] == moving
        assert (planned["partitions_before"], planned["partitions"]) == (4, 6)
        assert len(planned["topics"]) == 12
        assert await counts(service) == {4}
        away = env | {"CLV_REDIS": "redis://127.0.0.1:1/0"}
        assert "Nothing was done" in await command_refused("partitions", "grow", 6, **away)
        assert "3 are not more" in await command_refused("partitions", "grow", 3, **env)
        assert await counts(service) == {4}
        done = await command("partitions", "grow", 6, "--json", **env)
        assert (done["customers"], done["updates"], done["cached"]) == (moving, moving, 300)
        assert await counts(service) == {6}
        assert "6 partitions already" in await command_refused("partitions", "grow", 6, **env)
