"""What the registry comes to, when a refit is due by it, and the health of a fitter."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import typer

from models.economics import Economics
from models.population import Population
from streams.cli.fitter import parse_duration
from streams.cli.models import entries
from streams.fitter.due import due, in_force, last_refit, next_refit, rested
from streams.fitter.health import answer
from streams.registry.records import (
    REQUEST,
    STATE,
    Candidate,
    Request,
    State,
    candidate_key,
    is_parameters,
)
from streams.registry.registry import Registry
from tests.test_models.parameters import PARAMETERS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK, DAY, MINUTE = timedelta(days=7), timedelta(days=1), timedelta(minutes=1)


def parameters(version, holds_from, **changes):
    return PARAMETERS.model_copy(update={"version": version, "holds_from": holds_from, **changes})


def registry(*published, state=None, request=None):
    found = Registry("USD")
    for each in published:
        take(found, each.version.encode(), each)
    if state is not None:
        take(found, STATE, state)
    if request is not None:
        take(found, REQUEST, request)
    return found


def take(found, key, document):
    found.take(key, document.model_dump_json().encode())


def asked(id_):
    return Request(id=id_, asked_at=NOW)


def done(outcome="published", **more):
    return State(at=more.pop("at", NOW - DAY), outcome=outcome, **more)


def test_the_first_fit_is_due_as_soon_as_somebody_has_bought():
    assert due(registry(), 0, NOW, WEEK) is None
    assert due(registry(), 1, NOW, WEEK) == "there are no parameters yet"


def test_a_first_fit_that_gave_nothing_waits_for_its_turn():
    failed = registry(state=done("impossible"))
    assert due(failed, 5, NOW, WEEK) is None
    assert due(failed, 5, NOW + WEEK, WEEK) is not None


@pytest.mark.parametrize("outcome", ["published", "unchanged", "refused"])
def test_every_refit_starts_the_time_until_the_next(outcome):
    old = parameters("old", NOW - 30 * DAY)
    assert due(registry(old), 5, NOW, WEEK) is not None
    found = registry(old, state=done(outcome, version="old"))
    assert last_refit(found, NOW) == NOW - DAY
    assert next_refit(found, NOW, WEEK) == NOW + 6 * DAY
    assert due(found, 5, NOW, WEEK) is None


def test_what_somebody_published_by_hand_starts_the_time_too():
    found = registry(parameters("hand", NOW - DAY), state=done(at=NOW - 30 * DAY))
    assert due(found, 5, NOW, WEEK) is None
    ever = registry(parameters("ever", None, fitted_until=NOW - 2 * DAY))
    assert last_refit(ever, NOW) == NOW - 2 * DAY


def test_parameters_that_hold_later_are_not_in_force():
    found = registry(parameters("now", NOW - 8 * DAY), parameters("later", NOW + DAY))
    assert in_force(found, NOW).version == "now"
    assert due(found, 5, NOW, WEEK) is not None
    assert [each.status for each in entries(found, NOW)] == ["in force", "later"]


def test_a_shop_that_has_doubled_is_refitted_at_most_once_a_day():
    found = registry(parameters("old", NOW - 2 * DAY, customers=10))
    assert due(found, 19, NOW, WEEK) is None
    assert "20 customers have bought" in due(found, 20, NOW, WEEK)
    found = registry(parameters("old", NOW - DAY + MINUTE, customers=10))
    assert not rested(found, NOW)
    assert due(found, 20, NOW, WEEK) is None


def test_a_request_is_obeyed_once():
    old = parameters("old", NOW - DAY)
    assert "somebody asked" in due(registry(old, request=asked("one")), 0, NOW, WEEK)
    obeyed = registry(old, state=done("unchanged", request="one"), request=asked("one"))
    assert due(obeyed, 5, NOW, WEEK) is None
    take(obeyed, REQUEST, asked("two"))
    assert due(obeyed, 5, NOW, WEEK) is not None


def test_what_was_about_to_be_published_and_is_not_counts_for_nothing():
    begun = done("publishing", version="new", request="one")
    cut = registry(parameters("old", NOW - 30 * DAY), state=begun, request=asked("one"))
    assert cut.done is None
    assert "somebody asked" in due(cut, 5, NOW, WEEK)
    take(cut, b"new", parameters("new", NOW - DAY))
    assert due(cut, 5, NOW, WEEK) is None


def test_candidates_are_listed_until_somebody_puts_them_in_force():
    found = registry(parameters("old", NOW - DAY))
    refused = Candidate(parameters=parameters("bad", None), reasons=("worse",), judged_at=NOW)
    take(found, candidate_key("bad"), refused)
    [old, bad] = entries(found, NOW)
    assert (old.status, bad.status, bad.reasons) == ("in force", "refused", ("worse",))
    take(found, b"bad", parameters("bad", NOW))
    assert [each.status for each in entries(found, NOW)] == ["earlier", "in force"]
    assert found.candidates == {}
    again = registry()
    take(again, candidate_key("bad"), refused)
    again.take(candidate_key("bad"), None)
    assert again.candidates == {}


def test_what_is_none_of_ours_is_ignored():
    found = registry()
    for key in (
        b"claim/a/b", b"refit/state", b"refit/request", b"candidate/x", b"calibration/x",
        b"other/x", b"x",
    ):  # fmt: skip
        found.take(key, b"{not json")
        found.take(key, b"{}")
        found.take(key, None)
    found.take(None, None)
    take(found, b"euros", parameters("euros", None, currency="EUR"))
    assert (found.published, found.state, found.request) == ({}, None, None)
    assert found.calibrations == {}
    assert is_parameters(None)
    assert is_parameters(b"mbg-nbd-2026-01-01-12345678")
    assert not is_parameters(candidate_key("mbg-nbd"))


@pytest.mark.parametrize(
    ("text", "time"),
    [("7d", WEEK), ("12h", timedelta(hours=12)), ("30m", timedelta(minutes=30))],
)
def test_times(text, time):
    assert parse_duration(text) == time


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "-1d", "1w", "1.5h", "7d "])
def test_wrong_times_say_how_to_write_them(text):
    with pytest.raises(typer.BadParameter, match="such as 7d"):
        parse_duration(text)


def fitter(found, *, ready=True):
    customers = SimpleNamespace(population=Population(Economics()))
    return SimpleNamespace(registry=found, customers=customers, ready=ready, now=lambda: NOW)


def test_health_says_why_there_are_no_new_parameters():
    assert answer(None).unready.startswith("starting")
    assert answer(fitter(registry(), ready=False)).unready.startswith("starting")
    new = answer(fitter(registry()))
    assert new.unready == ""
    assert "no parameters are published" in json.loads(new.document)["reasons"][0]
    old = parameters("old", NOW - DAY)
    good = json.loads(answer(fitter(registry(old, state=done(version="old")))).document)
    assert (good["status"], good["parameters"], good["reasons"]) == ("ok", "old", [])
    bad = done("refused", version="bad", reasons=("worse",))
    refused = json.loads(answer(fitter(registry(old, state=bad))).document)
    assert refused["status"] == "degraded"
    assert refused["reasons"] == ["the last refit was refused: worse"]
