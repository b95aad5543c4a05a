"""A rate of a day that is missing, and is added: from the refusal to the value."""

import asyncio
from pathlib import Path

from models.economics import Economics
from tests.test_streams.dead_letters.support import TIME, clv, listed, order
from tests.test_streams.service.cluster import PATIENCE, cluster

DAY = f"{TIME:%Y-%m-%d}"
LATER = "2026-02-03,0.50\n"
HEAD = "Date,GBP\n"


async def test_a_missing_rate_is_added_and_the_dead_letters_are_retried_at_the_rate_of_the_day(
    tmp_path: Path, monkeypatch
):
    rates = tmp_path / "rates.csv"
    rates.write_text(HEAD + LATER)
    monkeypatch.setenv("CLV_RATES_FILE", str(rates))
    retry = ("retry", "--reason", "no-exchange-rate")
    async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
        first = await service.start_worker()
        await service.publish([order("c1", "o1", "GBP"), order("c2", "o2", "GBP")])
        await service.settled()
        found = await listed(service)
        assert found["reasons"] == {"no-exchange-rate": 2}
        message = found["letters"][0]["message"]
        assert f"data.currency is 'GBP', for which no rate to EUR on {DAY}" in message
        status, printed, said = await clv(service, *retry)
        assert (status, said) == (1, "2 refused\n")
        assert "would be refused: no-exchange-rate" in printed

        assert await first.stop() == 0
        rates.write_text(f"{HEAD}{LATER}{DAY},0.80\n")
        second = await service.start_worker()
        assert (await clv(service, *retry))[::2] == (0, "2 sent\n")
        await service.settled()
        totals = {name: update["totals"] for name, update in (await service.updates()).items()}
        assert {name: (each["orders"], each["gross"]) for name, each in totals.items()} == {
            "c1": (1, 50.0), "c2": (1, 50.0),
        }  # fmt: skip
        assert (await clv(service, *retry))[::2] == (0, "no letters to send again\n")

        # A file that no longer has the day of a stored order stops a worker, and loses nothing.
        assert await second.stop() == 0
        rates.write_text(HEAD + LATER)
        third = await service.start_worker()
        await service.publish([order("c1", "o3")])
        assert await asyncio.wait_for(third.process.wait(), PATIENCE) == 1
        text = third.log.read_text()
        assert f"the state has an amount in GBP of {DAY}, for which there is no rate to EUR" in text
        assert f"add the rate of that day to {rates} (CLV_RATES_FILE)" in text
        service.workers.remove(third)
        rates.write_text(f"{HEAD}{LATER}{DAY},0.80\n")
        await service.start_worker()
        await service.settled()
        totals = (await service.updates())["c1"]["totals"]
        assert (totals["orders"], totals["gross"]) == (2, 90.0)
        assert (await listed(service))["letters_found"] == 0
