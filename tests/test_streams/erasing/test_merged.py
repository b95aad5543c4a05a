"""Who was merged with whom, by the identities topic and by the stored records."""

from __future__ import annotations

import pytest

from models.aggregate.record import CustomerRecord, MergedCustomer, encode_record
from streams.erasing.merged import Merges, known_as, merged_with
from streams.files.outgoing import cloud_event
from streams.kafka.metadata import Described
from streams.kafka.partitions import Bounds, TopicPartition
from streams.simulation.clock import START
from streams.testing import Record, shop_settings
from streams.topics import changelog_topic

SETTINGS = shop_settings(partitions=1)
IDENTITIES = SETTINGS.topics.identities


class Logs:
    """Topics of one partition, whose first `lost` records are gone."""

    def __init__(self, lost: int = 0, **topics: list[tuple[bytes | None, bytes | None]]) -> None:
        names = {"identities": IDENTITIES, "changelog": changelog_topic(SETTINGS)}
        self._topics = {names[role]: records for role, records in topics.items()}
        self._lost = lost
        self.read_topics: list[str] = []

    async def describe(self, topics):
        return {name: Described(1, "") for name in topics if name in self._topics}

    async def bounds(self, tps):
        return {TopicPartition(*tp): Bounds(self._lost, len(self._topics[tp.topic])) for tp in tps}

    async def read(self, bounds):
        for tp, (begin, _) in bounds.items():
            self.read_topics.append(tp.topic)
            yield (
                tp,
                [
                    Record(tp.topic, 0, offset, key, value)
                    for offset, (key, value) in enumerate(self._topics[tp.topic])
                    if offset >= begin
                ],
            )


def merge(customer: str, merged_from: str) -> tuple[bytes | None, bytes | None]:
    data = {"customer_id": customer, "merged_from": merged_from, "merged_at": START}
    event = cloud_event(
        "identities", "customer.merged", source="/crm", event_id=merged_from, time=START,
        data=data, customer_id=customer,
    )  # fmt: skip
    return event.key, event.value


def stored(customer: str, into: str = "", *absorbed: str) -> tuple[bytes, bytes]:
    guests = {name: MergedCustomer(1, 0) for name in absorbed}
    return customer.encode(), encode_record(CustomerRecord(into=into, absorbed=guests))


CHAIN = [merge("anna", "bert"), merge("bert", "carl"), merge("dora", "eve")]


@pytest.mark.parametrize("asked", ["anna", "bert", "carl"])
async def test_a_chain_of_merges_is_one_customer_from_whichever_end(asked):
    logs = Logs(identities=CHAIN, changelog=[stored("anna", "", "zoe")])
    found, whole = await merged_with(SETTINGS, logs, [asked])
    assert (sorted(found), whole) == (["anna", "bert", "carl"], True)
    assert logs.read_topics == [IDENTITIES]


async def test_what_the_topic_has_lost_the_stored_records_say():
    changelog = [stored("anna", "", "bert"), stored("bert", "anna"), (b"x", b"\xff newer")]
    logs = Logs(lost=1, identities=CHAIN, changelog=changelog)
    found, whole = await merged_with(SETTINGS, logs, ["carl"])
    assert (sorted(found), whole) == (["anna", "bert", "carl"], True)


async def test_refused_events_and_absent_topics_merge_nobody():
    odd = [(b"anna", b"{}"), (b"anna", None), merge("anna", "anna"), (None, b"\xff")]
    assert await merged_with(SETTINGS, Logs(identities=odd), ["anna"]) == (["anna"], True)
    assert await merged_with(SETTINGS, Logs(), ["anna"]) == (["anna"], False)
    assert await merged_with(SETTINGS, Logs(lost=1, identities=CHAIN), ["anna"]) == (
        ["anna"],
        False,
    )
    assert await known_as(SETTINGS, Logs(changelog=[stored("a", "b")]), ["b"]) == ["b", "a"]


def test_pairs_join_in_any_order():
    merges = Merges()
    merges.note("c", "d")
    merges.note("a", "b")
    merges.note("b", "c")
    merges.note()
    assert merges.joined(["d", "x"]) == ["d", "x", "c", "b", "a"]
