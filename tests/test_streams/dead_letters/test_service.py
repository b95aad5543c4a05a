"""What becomes of dead letters that are sent again to running workers."""

import json
from datetime import datetime
from pathlib import Path

from models.documents import CONTENT_TYPE
from models.economics import Economics
from streams.cli.dead_letters import send_again
from streams.dead_letters.retry import Outcome
from streams.dead_letters.selection import Selection
from streams.kafka.partitions import home_partition
from tests.test_streams.dead_letters.support import (
    RATE,
    TIME,
    broken,
    clv,
    configured,
    kill_once_noted,
    listed,
    order,
    retried,
    shown,
    start,
)
from tests.test_streams.service.cluster import cluster


class TestService:
    async def test_a_rate_is_added_and_what_was_refused_for_it_counts_once(
        self, tmp_path: Path, monkeypatch
    ):
        async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
            topics = service.settings.topics
            first = await service.start_worker()
            await service.publish(
                [order("c1", "o1", "GBP"), order("c1", "o2"), order("c2", "o3", "GBP")]
            )
            await service.settled()

            status, printed, said = await clv(service, "list", "--json")
            assert (status, said) == (0, "")
            found = json.loads(printed)
            letters = {each["customer"]: each for each in found.pop("letters")}
            assert found == {
                "reasons": {"no-exchange-rate": 2}, "letters_found": 2, "retried": 0,
                "written_twice": 0, "notices": {},
            }  # fmt: skip
            letter = letters["c1"]
            assert datetime.fromisoformat(letter["time"]) > TIME
            home = home_partition(b"c1", service.partitions)
            assert letter["id"].startswith(f"{home}/")
            assert {**letter, "id": None, "time": None, "message": None} == {
                "id": None, "time": None, "reason": "no-exchange-rate", "field": "data.currency",
                "notice": False, "message": None, "customer": "c1", "type": "order.placed",
                "event_id": "e-o1",
                "from": f"{topics.orders}[{home}]@0", "retried": False,
            }  # fmt: skip
            assert "exchange_rates" in letter["message"]
            status, printed, _ = await clv(service, "list")
            assert status == 0
            assert "2 dead letters" in printed
            [line] = [line for line in printed.splitlines() if line.startswith(letter["id"] + " ")]
            assert line.split()[2:6] == ["no-exchange-rate", "c1", "order.placed", "e-o1"]

            assert (await shown(service, letter["id"]))["now"].startswith("would be refused: no-")
            assert (await retried(service))["outcomes"] == {"refused": 2}
            assert len(await service.records(topics.orders)) == 3

            assert await first.stop() == 0
            monkeypatch.setenv("CLV_ECONOMICS__EXCHANGE_RATES", '{"GBP": "1.25"}')
            await service.start_worker()
            now = (await shown(service, letter["id"], GBP=RATE))["now"]
            assert now == "would be accepted now"
            dry = await retried(service, dry=True, GBP=RATE)
            assert dry["outcomes"] == {"would be sent": 2}
            assert len(await service.records(topics.orders)) == 3
            status, printed, said = await clv(service, "retry", "--reason", "no-exchange-rate")
            assert (status, said) == (0, "2 sent\n")
            assert f"{letter['id']}  no-exchange-rate  sent to {topics.orders}[{home}]" in printed
            await service.settled()
            updates = await service.updates()
            assert {c: u["totals"]["gross"] for c, u in updates.items()} == {"c1": 90, "c2": 50}
            assert (await listed(service))["letters_found"] == 0
            everything = await listed(service, everything=True)
            assert (everything["letters_found"], everything["retried"]) == (2, 2)
            assert all(each["retried"] for each in everything["letters"])

            assert (await retried(service, GBP=RATE))["outcomes"] == {}
            again = await retried(service, letter["id"], GBP=RATE)
            assert again["outcomes"] == {"retried before": 1}
            again = await retried(service, letter["id"], force=True, GBP=RATE)
            assert again["outcomes"] == {"sent": 1}
            await service.settled()
            assert (await service.updates())["c1"]["totals"]["orders"] == 2
            records = await service.records(topics.orders)
        assert len(records) == 6
        assert len({(record.key, record.value) for record in records}) == 3
        resent = [dict(r.headers) for r in records if len(r.headers) > 1]
        assert len(resent) == 3
        assert all(headers["content-type"] == CONTENT_TYPE[1] for headers in resent)
        assert {headers["clv.retried-from"].decode() for headers in resent} == {
            f"{topics.dead_letters}[{each['id'].replace('/', ']@')}" for each in letters.values()
        }

    async def test_fields_are_corrected_and_a_chain_of_refusals_is_told(self, tmp_path: Path):
        events = [
            order(None, "o1"),
            order("c2", "o2", total=40.0),
            broken(b"\x1b[31m{no json"),
            order("c4", "o4", currency="EURO"),
        ]
        async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
            topics = service.settings.topics
            await service.start_worker()
            await service.publish(events)
            await service.settled()
            found = await listed(service)
            ids = {each["reason"] + str(each["event_id"]): each["id"] for each in found["letters"]}
            assert found["reasons"] == {
                "invalid-field": 2, "missing-customer": 1, "not-json": 1,
            }  # fmt: skip
            nameless, number = ids["missing-customere-o1"], ids["invalid-fielde-o2"]
            garbage, wrong = ids["not-jsonNone"], ids["invalid-fielde-o4"]

            assert (await retried(service, nameless, fields=["data.customer_id=c1"]))[
                "outcomes"
            ] == {"sent": 1}
            assert (await retried(service, number, fields=["data.total=40.00"]))["outcomes"] == {
                "sent": 1
            }
            failed = await retried(service, garbage, fields=["data.total=40.00"])
            assert failed["outcomes"] == {"impossible": 1}
            assert "structured" in failed["letters"][0]["why"]
            status, printed, _ = await clv(service, "show", garbage)
            assert status == 0
            assert "\x1b" not in printed
            assert r"\x1b[31m{no json" in printed

            assert (await retried(service, wrong, fields=["data.currency=EUROS"], force=True))[
                "outcomes"
            ] == {"sent": 1}
            await service.settled()
            updates = await service.updates()
            assert {c: u["totals"]["gross"] for c, u in updates.items()} == {"c1": 40, "c2": 40}
            after = await shown(service, wrong)
            assert after["retried"] is True
            [newer] = after["refused_again_as"]
            chained = await shown(service, newer)
            assert chained["retried_from"] == [after["letter"]]
            assert chained["corrected"] == ["data.currency"]
            assert chained["event"]["data"]["currency"] == "EUROS"
            assert (await retried(service, newer, fields=["data.currency=EUR"]))["outcomes"] == {
                "sent": 1
            }
            await service.settled()
            assert (await service.updates())["c4"]["totals"]["orders"] == 1
            records = await service.records(topics.orders)
        last = [r for r in records if b'"o4"' in r.value][-1]
        assert [v.decode() for name, v in last.headers if name == "clv.retried-from"] == [
            after["letter"], chained["letter"],
        ]  # fmt: skip

    async def test_a_retry_that_is_killed_and_run_again_counts_every_event_once(
        self, tmp_path: Path, monkeypatch
    ):
        number, customers = 5_000, 250
        async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
            topics = service.settings.topics
            first = await service.start_worker()
            await service.publish(order(f"c{n % customers}", f"o{n}", "GBP") for n in range(number))
            await service.settled()
            assert await first.stop() == 0
            monkeypatch.setenv("CLV_ECONOMICS__EXCHANGE_RATES", '{"GBP": "1.25"}')

            command = await start(service, "retry", "--all")
            await kill_once_noted(service, command)
            half = await listed(service)
            assert 0 < half["letters_found"] < number
            assert half["letters_found"] + half["retried"] == number

            rest = await retried(service, GBP=RATE)
            assert rest["outcomes"] == {"sent": half["letters_found"]}
            c0 = Selection(customer="c0")
            twice = await send_again(configured(service, GBP=RATE), c0, [], dry=False, force=True)
            assert twice.outcomes == {Outcome.SENT: number // customers}
            await service.start_worker()
            await service.settled()
            updates = await service.updates()
            letters = await listed(service)
            sent = len(await service.records(topics.orders)) - number
        assert sent >= number + number // customers
        assert letters["letters_found"] == 0
        assert len(updates) == customers
        for update in updates.values():
            assert update["totals"]["orders"] == number // customers
            assert update["totals"]["gross"] == 50 * number // customers
