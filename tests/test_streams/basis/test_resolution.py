"""What is written when a loss is accepted, and what is found if that ends in the middle."""

from dataclasses import replace

import pytest
from faust.types import TP

from streams.basis.accept import NotAcceptable, plan_steps, resolve
from streams.basis.examine import Group, Standing
from streams.basis.findings import Kind
from streams.basis.judge import Log, Shop, judge_log, judge_missing, judge_shop, judge_state
from streams.basis.record import Basis, Mark
from streams.kafka.metadata import Described
from streams.kafka.partitions import Bounds
from streams.settings import Settings
from streams.topics import changelog_topic

SETTINGS = Settings(partitions=2)
ORDERS = TP(SETTINGS.topics.orders, 1)
KEY = "shop.orders/1"
MARK = Mark(90, 1, b"digest")
TOPICS = ("complaint",)
SHOP = Shop(2, "USD", "UTC", TOPICS)
IDS = dict.fromkeys((*SETTINGS.topics.sources, changelog_topic(SETTINGS)), "new")


def basis(**changes):
    return Basis(
        **{
            "partitions": 2, "topics": {ORDERS.topic: "old"}, "generations": {},
            "currency": "USD", "timezone": "UTC", "marks": {KEY: MARK},
        } | changes
    )  # fmt: skip


def group(committed=100, held=None):
    topics = {topic: Described(2, "new") for topic in SETTINGS.topics.sources}
    bases = {1: held or basis()}
    return Group(Standing(topics, {}, {ORDERS: committed} if committed else {}), bases)


def bounds(begin=0, end=3):
    return {
        TP(topic, number): Bounds(begin, end)
        for topic in SETTINGS.topics.sources
        for number in range(2)
    }


def resolved(found, state=None, where=None, first_versions=None, **log):
    where = where or group()
    steps = plan_steps(SETTINGS, where, bounds(**log), found, state)
    return resolve(where, steps, shop=SHOP, ids=IDS, first_versions=first_versions or {}, at=7)


REPLACED = Log(ORDERS, "new", 0, 3, 100)


def test_a_log_that_was_replaced_is_another_and_read_from_its_beginning():
    done = resolved([judge_log(REPLACED, basis())])
    assert done.commits == {ORDERS: 0}
    after = done.after[1]
    assert after.generations == {KEY: 1}
    assert after.committed == {KEY: 100}
    assert (after.topics[ORDERS.topic], after.marks) == ("new", {})
    [accepted] = after.accepted
    assert (accepted.at, accepted.finding, accepted.place) == (7, "replaced", "shop.orders[1]")
    # And nothing is found any more.
    assert judge_log(replace(REPLACED, committed=0), after) is None


def test_what_was_summed_up_under_other_settings_is_still_known_to_be_so():
    former = {"currency": "EUR", "timezone": "Asia/Tokyo", "complaint_topics": ["damaged"]}
    held = basis(**former)
    kept = resolved([judge_log(REPLACED, held)], where=group(held=held)).after[1]
    assert {name: getattr(kept, name) for name in former} == former
    gone = judge_state(changelog_topic(SETTINGS), None, {ORDERS: 100})
    anew = resolved([gone], "rebuild", group(held=held)).after[1]
    assert (anew.currency, anew.timezone, anew.complaint_topics) == ("USD", "UTC", [*TOPICS])


def test_until_everything_is_written_the_loss_is_found():
    done = resolved([judge_log(REPLACED, basis())])
    before = done.before[1]
    assert before.generations == {KEY: 1}
    for committed in (100, 0):
        again = judge_log(replace(REPLACED, committed=committed), before)
        assert again.kind is Kind.REPLACED
    twice = resolved([again], where=group(0, before))
    assert twice.after[1].generations == {KEY: 2}
    assert len(twice.after[1].accepted) == 2


def test_a_log_without_its_end_is_read_again_from_what_is_known_to_be_the_same():
    log = Log(ORDERS, "old", 0, 95, 100, MARK)
    done = resolved([judge_log(log, basis())], end=95)
    assert done.commits == {ORDERS: 91}
    assert done.after[1].generations == {KEY: 1}
    assert done.after[1].marks == {KEY: MARK}
    assert judge_log(replace(log, committed=91, topic_id="new"), done.after[1]) is None


def test_after_retention_the_log_stays_the_same():
    log = Log(ORDERS, "old", 130, 200, 100)
    done = resolved([judge_log(log, basis())], begin=130, end=200)
    assert done.commits == {ORDERS: 130}
    assert done.after[1].generations == {}
    assert judge_log(replace(log, committed=130, topic_id="new"), done.after[1]) is None


def test_a_topic_that_is_gone_is_another_wherever_it_was_read():
    # Kafka forgets a topic's offsets with it; the mark knows that something was read.
    [finding] = judge_missing([ORDERS.topic], {}, [basis()])
    done = resolved([finding], where=group(0), end=0)
    assert done.commits == {ORDERS: 0}
    assert set(done.after) == {1}
    assert done.after[1].generations == {KEY: 1}
    assert done.after[1].committed == {}


@pytest.mark.parametrize("state", ["rebuild", "from-nothing"])
def test_a_state_that_is_gone_begins_above_all_versions(state):
    committed = {ORDERS: 100}
    finding = judge_state(changelog_topic(SETTINGS), None, committed)
    where = Group(Standing({}, None, committed), {})
    done = resolved([finding], state, where, {0: 4, 1: 9})
    read_again = {tp for tp in bounds() if tp.topic != SETTINGS.topics.clock}
    assert set(done.commits) == (read_again if state == "rebuild" else set())
    assert not done.before
    assert {n: each.first_version for n, each in done.after.items()} == {0: 4, 1: 9}
    assert all(each.accepted for each in done.after.values())
    assert done.steps[0].emptied is (state == "rebuild")


def test_whoever_does_not_say_what_to_do_about_a_state_is_asked():
    finding = judge_state(changelog_topic(SETTINGS), None, {ORDERS: 1})
    with pytest.raises(NotAcceptable, match=r"--rebuild .* --from-nothing"):
        plan_steps(SETTINGS, group(), bounds(), [finding], None)


def test_what_is_no_loss_is_refused_with_its_remedy():
    [finding] = judge_shop(basis(), Shop(8, "USD", "UTC", TOPICS))
    with pytest.raises(NotAcceptable, match="clv partitions grow 8"):
        plan_steps(SETTINGS, group(), bounds(), [finding], "rebuild")
