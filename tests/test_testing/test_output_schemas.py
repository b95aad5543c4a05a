"""What the service publishes is what the JSON Schemas of its outputs say, to the last field."""

import asyncio
import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from models.contracts import NOTICES, Reason, json_schemas
from models.contracts.dead_letters import headers_schema
from models.contracts.outputs import output_schemas
from streams.files.outgoing import cloud_event
from streams.simulation.clock import START
from streams.testing import Topology, running_topology, shop_settings
from tests.test_streams.commands import clv, refused
from tests.test_streams.recording.support import PARAMETERS

MAPS = {"segments", "windows", "values"}
"""Objects whose names vary."""


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


OUT = {kind: validator(schema) for kind, schema in output_schemas().items()}


async def live(topology: Topology) -> None:
    """Everything that gives a document another shape."""
    orders, support, customers = topology.orders, topology.support, topology.customers
    for name in ("anna", "bert", "carl", "dora"):
        order = await orders.placed(name, "40.00 EUR", at="2026-01-03")
        await orders.placed(name, "60.00 EUR", at="2026-02-03", cost_of_goods="20.00")
        await orders.refunded(name, "10.00", order=order.data.order_id, at="2026-02-04")
        await customers.acquired(name, "5.00", at="2026-01-02")
        await support.opened(name, at="2026-02-05", complaint=True)
    await customers.acquired("eve", "5.00", at="2026-01-02")
    await customers.merged("anna", "bert", at="2026-03-01")
    await customers.erased("carl", at="2026-03-02")
    loaded = cloud_event(
        "backfill", "order.placed", source="/old", event_id="b", time=START, customer_id="dora",
        data={
            "order_id": "b", "customer_id": "dora", "placed_at": START, "currency": "EUR",
            "total": "1",
        },
    )  # fmt: skip
    await topology.publish_events([loaded])
    await topology.publish("shop.orders", "anna", b"no event")
    await topology.publish("shop.orders", None, b"{}", [("clv.cut", b"x"), ("mine", b"")])
    await topology.advance(days=200)
    await topology.use_parameters(PARAMETERS.model_copy(update={"currency": "EUR"}), revalue=True)
    await orders.placed("anna", "40.00 EUR")


@pytest.fixture(scope="module")
def published() -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Documents, and the headers of dead letters."""

    async def publish() -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        async with running_topology(shop_settings()) as topology:
            await live(topology)
            topics = topology.settings.topics
            outputs = [
                *await topology.topic(topics.updates), *await topology.topic(topics.segment_changes)
            ]  # fmt: skip
            letters = await topology.topic(topics.dead_letters)
        return (
            [json.loads(record.value) for record in outputs if record.value is not None],
            [{name: content.decode() for name, content in each.headers} for each in letters],
        )

    return asyncio.run(publish())


def test_they_take_all_that_a_service_publishes(published) -> None:
    documents, letters = published
    for document in documents:
        OUT[document["type"]].validate(document)
    for letter in letters:
        validator(headers_schema()).validate(letter)
    # All shapes are there, or the test shows less than it says.
    data = [each["data"] for each in documents]
    assert {each["type"] for each in documents} == set(OUT)
    assert {each["model"]["version"] for each in data if "model" in each} == {
        "prior", PARAMETERS.version,
    }  # fmt: skip
    kinds = {"p_alive": float, "p_purchase": float, "clv_before": float}
    for name, kind in {**kinds, "previous": str, "merged_into": str}.items():
        assert {type(each[name]) for each in data if name in each} == {type(None), kind}, name
    assert any(each.get("backfill") for each in data)
    assert any(each["totals"]["refunded"] for each in data if "totals" in each)
    assert len(letters) == 2


def broken(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each object in a document, and a field that it must have."""
    if isinstance(node, dict):
        for name, inner in node.items():
            if not (path and path[-1] in MAPS) and name != "backfill":
                yield path, name
            yield from broken(inner, (*path, name))


@pytest.mark.parametrize("kind", OUT)
def test_they_refuse_a_field_that_is_missing_unknown_or_of_another_type(published, kind) -> None:
    documents = [each for each in published[0] if each["type"] == kind]
    document = max(documents, key=lambda each: len(json.dumps(each)))
    places = list(broken(document))
    assert len(places) > 12
    for path, name in places:
        changed = copy.deepcopy(document)
        inside = changed
        for step in path:
            inside = inside[step]
        held = inside.pop(name)
        assert not OUT[kind].is_valid(changed), f"without {name} in {path}"
        inside[name] = [held]
        assert not OUT[kind].is_valid(changed), f"{name} is a list in {path}"
        inside[name] = held
        inside["unknown"] = held
        assert not OUT[kind].is_valid(changed), f"with another field in {path}"


def test_headers_without_the_reason_or_with_another_are_refused(published) -> None:
    schema = validator(headers_schema())
    letter = published[1][0]
    for name in headers_schema()["required"]:
        assert not schema.is_valid({each: text for each, text in letter.items() if each != name})
    exception = "__streams.errors.exception"
    assert not schema.is_valid({**letter, exception: "clv.refused.because"})
    for reason in Reason:
        kind, other = ("notice", "refused") if reason in NOTICES else ("refused", "notice")
        assert schema.is_valid({**letter, exception: f"clv.{kind}.{reason.value}"})
        assert not schema.is_valid({**letter, exception: f"clv.{other}.{reason.value}"})


def test_the_command_prints_all_of_them_or_one() -> None:
    done = clv("contracts")
    printed = json.loads(done.stdout)
    assert set(printed) == {*json_schemas(), *OUT, "dead-letter-headers"}
    assert printed["clv.updated"] == output_schemas()["clv.updated"]
    assert json.loads(clv("contracts", "clv.updated").stdout) == printed["clv.updated"]
    assert "there is no type 'clv.update'; there are order.placed," in refused(
        "contracts", "clv.update"
    )
