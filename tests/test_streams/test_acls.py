"""The documented ACLs for Kafka, given to users as they stand there: each does its work by them."""

import asyncio
import contextlib
import json
import re
import subprocess
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)

from streams.embedded import embedded_servers
from streams.settings import Settings, Topics
from streams.topics import plan
from tests.servers.kafka import KafkaCluster, Security, kafka_missing_reason

from .acls import (
    LITERAL,
    MAKER,
    OTHER_USERS,
    PARTITIONS,
    SOON,
    USERS,
    Server,
    documented,
    elsewhere,
    event,
    of_first,
    order,
    password,
    settings_of_first,
    working,
)
from .commands import CLV, clv, environment

ORDERS = """\
customer_id,date,amount,order_id,currency
anna,2026-01-01,100,1,USD
bert,2026-01-05,20,2,USD
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if reason := kafka_missing_reason():
        pytest.skip(reason)
    others = {user: password(user) for user in (*USERS, *OTHER_USERS, "stranger")}
    security = Security(
        "SASL_PLAINTEXT", "PLAIN", username="admin", password=password("admin"), others=others
    )
    directory = tmp_path_factory.mktemp("kafka")
    kafka = KafkaCluster(1, directory, security=security, superusers=["admin"])
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        try:
            runner.run(stack.enter_async_context(kafka))
            servers = runner.run(stack.enter_async_context(embedded_servers(broker=False)))
            made = Server(kafka, servers.redis.url)
            for user, roles in USERS.items():
                rules = [rule for rule in documented() if rule.role in roles]
                assert rules, user
                runner.run(made.allow(user, rules))
            yield made
        finally:
            runner.run(stack.aclose())


@pytest.fixture(scope="module")
def service(server, tmp_path_factory):
    """The service on topics that an administrator made: its worker may make none of them."""
    asyncio.run(server.make_topics())
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with working(server.variables("worker"), log) as worker:
        worker.wait_for('"worker started"')
        # There is something to read, whichever tests this process has run before.
        first = ("shop.orders", "first", order("first", "0"))
        asyncio.run(server.publish("admin", first))
        yield worker
        assert worker.process.poll() is None, worker.said()[-3_000:]
        assert worker.stop() == 0, worker.said()[-3_000:]


STAYS, GOES = "ida", elsewhere("ida")
"""Merged across partitions, by a message between them."""


def test_the_documentation_names_the_topics_of_the_service_and_no_others():
    named = {(rule.kind, rule.name) for rule in documented() if rule.pattern == LITERAL}
    topics = {topic.name for topic in plan(Settings())}
    assert {name for kind, name in named if kind == "topic"} <= topics
    assert topics <= {name for kind, name in named if kind == "topic"}
    made = {rule.name for rule in documented() if rule.role == MAKER}
    assert made == topics


@pytest.mark.kafka
def test_publishers_write_events_and_a_worker_does_all_its_work_of_them(server, service):
    erased = event("customer.erased", customer_id="eve", erased_at="2026-01-04T10:00:00Z")
    merged = event(
        "customer.merged", customer_id=STAYS, merged_from=GOES, merged_at="2026-01-04T10:00:00Z"
    )
    ticket = event(
        "ticket.opened", ticket_id="t1", customer_id="ida", opened_at="2026-01-03T10:00:00Z",
        channel="email",
    )  # fmt: skip
    acquired = event(
        "customer.acquired", customer_id=STAYS, acquired_at="2026-01-03T10:00:00Z", cost="5.00",
        currency="USD",
    )  # fmt: skip
    published = {
        "storefront": [
            ("shop.orders", STAYS, order(STAYS, "1")),
            ("shop.orders", GOES, order(GOES, "2")),
            ("shop.orders", "eve", order("eve", "3")),
            ("shop.orders", elsewhere("mis-keyed"), order("mis-keyed", "4")),
            ("shop.orders", "refused", order("refused", "5", total="many")),
        ],
        "helpdesk": [("shop.support", "ida", ticket)],
        "marketing": [("shop.customers", STAYS, acquired)],
        "privacy": [("shop.identities", STAYS, merged), ("shop.identities", "eve", erased)],
    }
    for user, records in published.items():
        asyncio.run(server.publish(user, *records))

    def done(records):
        values = {record.key.decode(): record.value for record in records}
        gone = all(name in values and values[name] is None for name in (GOES, "eve"))
        stays = json.loads(values.get(STAYS) or b"{}").get("data", {}).get("totals", {})
        both = (stays.get("orders"), stays.get("contacts")) == (2, 1)
        return gone and both and values.get("mis-keyed") is not None

    asyncio.run(server.read("subscriber", "clv.updates", group="crm-values", done=done))

    def refusal(records):
        return any(record.key == b"refused" for record in records)

    asyncio.run(server.read("recorder", "clv.dead-letters", done=refusal))
    assert service.process.poll() is None


PUBLISHERS = {
    "storefront": "shop.orders",
    "helpdesk": "shop.support",
    "marketing": "shop.customers",
    "privacy": "shop.identities",
}
"""The users that publish events, each to its own topic."""


@pytest.mark.kafka
@pytest.mark.parametrize("user", PUBLISHERS)
def test_a_publisher_writes_to_its_topic_and_can_do_nothing_else(user, server, service):
    others = {topic.name for topic in plan(Settings())} - {PUBLISHERS[user]}
    for topic in sorted(others):
        with pytest.raises(TopicAuthorizationFailedError, match=re.escape(topic)):
            asyncio.run(server.publish(user, (topic, "k", b"{}")))
    for topic in ("clv.updates", PUBLISHERS[user]):
        with pytest.raises(TopicAuthorizationFailedError, match=re.escape(topic)):
            asyncio.run(server.read(user, topic))


@pytest.mark.kafka
def test_a_help_desk_erases_nobody_and_a_storefront_hides_no_change(server, service):
    """What ACLs cannot tell apart, the types of the topics do."""
    erased = event("customer.erased", customer_id="carl", erased_at="2026-01-04T10:00:00Z")
    asyncio.run(server.publish("storefront", ("shop.orders", "carl", order("carl", "6"))))
    asyncio.run(server.publish("helpdesk", ("shop.support", "carl", erased)))

    def done(records):
        return any(b"wrong-topic" in b"".join(dict(r.headers).values()) for r in records)

    asyncio.run(server.read("operator", "clv.dead-letters", done=done))

    def valued(records):
        return any(record.key == b"carl" and record.value is not None for record in records)

    updates = asyncio.run(server.read("operator", "clv.updates", done=valued))
    assert all(record.value is not None for record in updates if record.key == b"carl")


@pytest.mark.kafka
def test_a_fitter_fits_and_publishes_and_can_do_nothing_else(server, service):
    def valued(records):
        return any(record.key == b"fay" for record in records)

    asyncio.run(server.publish("storefront", ("shop.orders", "fay", order("fay", "7"))))
    asyncio.run(server.read("subscriber", "clv.updates", done=valued))
    variables = server.variables("fitter")
    fitted = clv("fitter", "--once", "--json", **variables)
    assert fitted.returncode == 0, fitted.stderr
    version = json.loads(fitted.stdout)["version"]
    listed = clv("models", "list", "--json", **variables)
    assert version in [each["version"] for each in json.loads(listed.stdout)["models"]]
    assert clv("models", "refit", **variables).returncode == 0
    with pytest.raises(TopicAuthorizationFailedError, match=r"shop\.orders"):
        asyncio.run(server.publish("fitter", ("shop.orders", "ida", b"{}")))


@pytest.mark.kafka
def test_a_subscriber_reads_in_a_group_of_its_own_and_writes_nothing(server, service):
    changes = asyncio.run(server.read("subscriber", "clv.segment-changes", group="crm-1"))
    assert changes
    with pytest.raises(GroupAuthorizationFailedError, match="clv"):
        asyncio.run(server.read("subscriber", "clv.updates", group="clv"))
    with pytest.raises(TopicAuthorizationFailedError, match=r"clv\.updates"):
        asyncio.run(server.publish("subscriber", ("clv.updates", "ida", b"{}")))
    with pytest.raises(TopicAuthorizationFailedError, match=r"shop\.orders"):
        asyncio.run(server.read("subscriber", "shop.orders"))


@contextlib.contextmanager
def serving(variables):
    """The address of a `clv serve` that runs in the context, and ends well after it."""
    command = [*CLV, "serve", "--port", "0"]
    with subprocess.Popen(
        command, env=environment(**variables), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            yield next(
                word.removesuffix("openapi.json")
                for line in process.stderr
                for word in line.split()
                if word.startswith("http://")
            )
        finally:
            process.terminate()
        assert process.wait(SOON) == 0


@pytest.mark.kafka
def test_the_api_reads_the_model_the_changes_and_how_far_the_workers_are(server, service):
    valued = ("shop.orders", "mia", order("mia", "8"))
    asyncio.run(server.publish("storefront", valued))
    asyncio.run(server.read("subscriber", "clv.updates", done=_has("mia")))
    with serving(server.variables("api")) as url:
        with urlopen(f"{url}v1/changes", timeout=SOON) as answer:
            assert answer.readline() == b": connected\n"
        with urlopen(f"{url}v1/segments", timeout=SOON) as answer:
            assert json.load(answer)["currency"] == "USD"
        # Whether there is a model, other tests decide; without the right it would be 503.
        try:
            status = urlopen(f"{url}v1/model", timeout=SOON).status
        except HTTPError as error:
            status = error.code
        assert status in {200, 404}
        with urlopen(f"{url}v1/history/mia", timeout=SOON) as answer:
            assert json.load(answer)["days"]
        with urlopen(f"{url}v1/operations", timeout=SOON) as answer:
            operations = json.load(answer)
    assert operations["workers"] == 1
    assert {each["topic"] for each in operations["partitions"]} == set(Topics().inputs)


def _has(customer):
    return lambda records: any(record.key == customer.encode() for record in records)


@pytest.mark.kafka
def test_only_an_api_that_may_write_sends_dead_letters_again(server, service):
    pounds = order("pat", "9").replace(b"USD", b"GBP")
    asyncio.run(server.publish("storefront", ("shop.orders", "pat", pounds)))
    letters = asyncio.run(server.read("recorder", "clv.dead-letters", done=_has("pat")))
    letter = next(each for each in letters if each.key == b"pat")
    place = f"{letter.partition}/{letter.offset}"
    token = "a token that may write"
    writing = {
        "CLV_SERVE__WRITE_TOKENS": json.dumps([token]),
        "CLV_ECONOMICS__EXCHANGE_RATES": '{"GBP": "1.25"}',
    }

    def answer(user):
        with serving(server.variables(user) | writing) as url:
            asked = Request(
                f"{url}v1/dead-letters/retry",
                json.dumps({"letters": [place]}).encode(),
                {"Authorization": f"Bearer {token}"},
            )
            try:
                with urlopen(asked, timeout=SOON) as found:
                    return found.status, json.load(found)
            except HTTPError as error:
                return error.code, json.load(error)

    status, problem = answer("api")
    assert (status, "docs/security.md" in problem["detail"]) == (403, True)
    status, sent = answer("retrier")
    assert (status, [each["outcome"] for each in sent["letters"]]) == (200, ["sent"])
    assert [each["why"] for each in sent["letters"]] == ["would be accepted now"]


COMMANDS = {
    "doctor": ["doctor"],
    "load": ["load", "FILES/orders.csv"],
    "backfill": ["backfill", "FILES/history.csv"],
    "tick": ["tick"],
    "fit": ["fit", "cdnow", "--in-sample", "--publish"],
    "dead-letters list": ["dead-letters", "list", "--json"],
    "dead-letters retry": ["dead-letters", "retry", "--all", "--force"],
    "dead-letters export": ["dead-letters", "export", "FILES/letters.jsonl", "--all"],
    "rebuild-cache": ["rebuild-cache", "--clear"],
    "replay": ["replay", "production", "FILES/orders.csv", "--yes-touch", "clv"],
}
"""What the operator does, in this order."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files")
    (directory / "orders.csv").write_text(ORDERS)
    (directory / "history.csv").write_text(ORDERS.replace("2026", "2024"))
    return directory


@pytest.mark.kafka
@pytest.mark.parametrize("command", COMMANDS)
def test_an_operator_can_run(command, server, service, files):
    words = [word.replace("FILES", str(files)) for word in COMMANDS[command]]
    done = clv(*words, **server.variables("operator"))
    assert done.returncode == 0, done.stderr + done.stdout
    assert "uthoriz" not in done.stderr + done.stdout
    assert "does not tell" not in done.stdout


@pytest.mark.kafka
def test_only_workers_write_what_workers_tell_each_other(server, service):
    def refusal(records):
        return any(b"clv.identity" in dict(record.headers).values() for record in records)

    damaged = ("clv.identity", STAYS, b"\x01 cut off")
    asyncio.run(server.publish("worker", damaged))
    asyncio.run(server.read("operator", "clv.dead-letters", done=refusal))
    words = ["dead-letters", "retry", "--topic", "clv.identity", "--force"]
    assert "clv.identity" in refused(server.variables("operator"), *words)


@pytest.fixture(scope="module")
def recording(server, service, files):
    path = files / "all.clvrec"
    recorded = clv("record", path, "--json", **server.variables("recorder"))
    assert recorded.returncode == 0, recorded.stderr
    assert json.loads(recorded.stdout)["records"] > 0
    return path


@pytest.mark.kafka
def test_a_recorder_records_and_digests_and_can_do_nothing_else(server, recording):
    variables = server.variables("recorder")
    digested = clv("digest", "--json", **variables)
    assert digested.returncode == 0, digested.stderr
    replayed = clv("replay", "memory", "all", "--json", **variables)
    assert replayed.returncode == 0, replayed.stderr
    told = refused(variables, "tick")
    assert "clv.identity" in told


@pytest.mark.kafka
def test_a_replayer_replays_under_its_prefix_and_nowhere_else(server, recording, files):
    variables = server.variables("replayer")
    there = clv("replay", "topics", recording, "--prefix", "rehearsal-1.", **variables)
    assert there.returncode == 0, there.stderr
    assert "rehearsal-1.shop.orders" in asyncio.run(server.topics())
    sandbox = clv(
        "replay", "sandbox", files / "orders.csv", "--group", "rehearsal", "--json",
        **variables,
    )  # fmt: skip
    assert sandbox.returncode == 0, sandbox.stderr
    assert json.loads(sandbox.stdout)["customers"] == 2
    told = refused(variables, "replay", "topics", recording, "--prefix", "other.")
    assert "other." in told


def refused(variables, *arguments: object) -> str:
    """The one line in which a command says what it may not do."""
    began = time.monotonic()
    done = clv(*arguments, **variables)
    assert done.returncode == 1, done.stdout + done.stderr
    assert time.monotonic() - began < SOON
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    return line


REFUSALS = {
    "a storefront records": ("storefront", ["record", "F/no.clvrec"], "clv.models, shop.support"),
    "a storefront records what it publishes": (
        "storefront",
        ["record", "F/no.clvrec", "--topics", "orders"],
        "with topic shop.",
    ),
    "a storefront asks for a digest": ("storefront", ["digest"], "clv.updates"),
    "a storefront reads dead letters": ("storefront", ["dead-letters", "list"], "clv.dead-letters"),
    "a recorder retries dead letters": (
        "recorder",
        ["dead-letters", "retry", "--topic", "shop.orders", "--force"],
        "shop.orders",
    ),
    "a stranger ticks": ("stranger", ["tick"], "give the service the right"),
    "a subscriber loads": (
        "subscriber",
        ["load", "F/orders.csv"],
        "topic shop.",
    ),
}


@pytest.fixture(scope="module")
def letter(server, service):
    """There is a dead letter to retry, whichever tests this process has run before."""
    record = ("shop.orders", "retried", order("retried", "7", total="many"))
    asyncio.run(server.publish("admin", record))

    def done(records):
        return any(record.key == b"retried" for record in records)

    asyncio.run(server.read("operator", "clv.dead-letters", done=done))


@pytest.mark.kafka
@pytest.mark.usefixtures("letter")
@pytest.mark.parametrize("case", REFUSALS)
def test_a_command_that_is_not_granted_says_what_was_refused(case, server, service, files):
    user, words, named = REFUSALS[case]
    line = refused(server.variables(user), *(word.replace("F/", f"{files}/") for word in words))
    assert named in line


@pytest.mark.kafka
def test_a_grower_gives_the_topics_more_partitions_and_nobody_else_can(server, service):
    """The last that is done with this service: it has other partitions then."""
    assert service.stop() == 0, service.said()[-3_000:]
    try:
        words = ["partitions", "grow", PARTITIONS + 1, "--json"]
        assert "group clv" in refused(server.variables("operator"), *words)
        done = clv(*words, **server.variables("grower"))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["partitions"] == PARTITIONS + 1
    finally:
        service.begin()
    service.wait_for('"worker started"')


@pytest.fixture(scope="module")
def first_start(server, tmp_path_factory):
    """A worker of another service, on topics that are not there, is started and stopped."""
    settings = settings_of_first()
    ours = [rule for rule in documented() if rule.role in ("worker", MAKER)]
    rules = [rule._replace(name=of_first(rule.name)) for rule in ours]
    asyncio.run(server.allow("maker", rules))
    before = asyncio.run(server.topics())
    log = tmp_path_factory.mktemp("maker") / "worker.log"
    with working(server.variables("maker", settings), log) as worker:
        worker.wait_for('"worker started"')
        made = asyncio.run(server.topics()) - before
        return settings, made, worker.stop()


@pytest.mark.kafka
def test_a_worker_that_may_make_topics_starts_on_an_empty_cluster(first_start):
    settings, made, status = first_start
    assert {topic.name for topic in plan(settings)} <= made
    assert status == 0


@pytest.mark.kafka
def test_a_worker_that_may_not_write_dead_letters_ends_and_says_so(server, first_start, tmp_path):
    settings, _, _ = first_start
    letters = settings.topics.dead_letters
    ours = [rule for rule in documented() if rule.role == "worker"]
    rules = [rule._replace(name=of_first(rule.name)) for rule in ours]
    kept = [
        rule._replace(operations=("Describe",)) if rule.name == letters else rule for rule in rules
    ]
    assert kept != rules
    asyncio.run(server.allow("careless", kept))
    with working(server.variables("careless", settings), tmp_path / "worker.log") as worker:
        worker.wait_for('"worker started"')
        record = (settings.topics.orders, "refused", order("refused", "5", total="many"))
        asyncio.run(server.publish("admin", record))
        assert worker.ended() == 1
    [line] = [line for line in worker.said().splitlines() if line.startswith("error:")]
    assert letters in line


@pytest.mark.kafka
def test_a_worker_that_may_not_read_in_its_group_ends_and_says_so(server, first_start, tmp_path):
    settings, _, _ = first_start
    ours = [rule for rule in documented() if rule.role == "worker" and rule.kind == "topic"]
    rules = [rule._replace(name=of_first(rule.name)) for rule in ours]
    asyncio.run(server.allow("groupless", rules))
    with working(server.variables("groupless", settings), tmp_path / "worker.log") as worker:
        assert worker.ended() == 1
    [line] = [line for line in worker.said().splitlines() if line.startswith("error:")]
    assert "with group first" in line
