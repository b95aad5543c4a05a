"""Notices on the topic of the dead letters, through a worker and its crashes."""

from models.contracts.dead_letters import EXCEPTION
from streams.testing import Topology


async def test_what_is_suspicious_counts_and_is_told_once(topology: Topology) -> None:
    day = "2026-01-03T10:00:00Z"
    for total in ("40.00 EUR", "45.00 EUR"):
        await topology.orders.placed("c1", total, order_id="o1", at=day)
    await topology.orders.refunded("c1", "50.00 EUR", order_id="o1", refund_id="r", at="2026-01-04")
    await topology.publish(topology.settings.topics.orders, "c1", b"no event")
    await topology.settled()
    totals = (await topology.updates.last("c1")).totals
    assert (totals.orders, totals.gross, totals.refunded) == (1, 45.0, 50.0)
    counts = topology.workers[0].pipeline.counts
    assert (counts.accepted, counts.duplicates) == (3, 0)
    assert counts.dead_letters == {"not-json": 1}
    assert counts.notices == {"ambiguous": 1, "refund-beyond-total": 1}
    assert counts.document()["notices"] == {"ambiguous": 1, "refund-beyond-total": 1}

    letters = await topology.dead_letters.all()
    found = {letter.reason: letter for letter in letters}
    assert found.keys() == {"ambiguous", "refund-beyond-total", "not-json"}
    assert b'"45.00"' in (found["ambiguous"].value or b"")
    headers = [dict(r.headers)[EXCEPTION] for r in await topology.topic("clv.dead-letters")]
    assert sorted(headers) == [
        b"clv.notice.ambiguous", b"clv.notice.refund-beyond-total", b"clv.refused.not-json",
    ]  # fmt: skip
    assert "notice, refund-beyond-total" in topology.history("c1")

    await topology.kill_worker()
    await topology.start_worker()
    await topology.orders.placed("c1", "1.00 EUR", order_id="o2", at="2026-01-05")
    await topology.settled()
    places = {(letter.topic, letter.partition, letter.offset) for letter in letters}
    again = await topology.dead_letters.all()
    assert {(letter.topic, letter.partition, letter.offset) for letter in again} == places


async def test_a_crash_before_the_state_is_stored_tells_it_again_and_counts_once(
    topology: Topology,
) -> None:
    await topology.orders.placed("c1", "40.00 EUR", order_id="o1", at="2026-01-03")
    await topology.settled()
    topology.freeze("clv-customers-changelog")
    await topology.orders.refunded("c1", "50.00 EUR", order_id="o1", refund_id="r", at="2026-01-04")
    await topology.kill_worker()
    topology.release("clv-customers-changelog")
    await topology.start_worker()
    await topology.settled()
    letters = await topology.dead_letters.all()
    assert {letter.reason for letter in letters} == {"refund-beyond-total"}
    assert len({(letter.partition, letter.offset) for letter in letters}) == 1
    totals = (await topology.updates.last("c1")).totals
    assert (totals.refunds, totals.refunded) == (1, 50.0)
