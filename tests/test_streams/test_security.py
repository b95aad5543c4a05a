"""TLS, logins and secrets: the service against servers that let in only who shows a password."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.protocol.admin import SaslAuthenticateRequest_v1
from pydantic import ValidationError

from models.contracts.decode import Reason, Refused, decode
from streams.addresses import shown_url
from streams.cache import CachedScore, ScoreCache, connect
from streams.cache.score import Removal
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError
from streams.cli.logs import configure_logging
from streams.embedded import embedded_servers
from streams.kafka.connection import Broker, SecurityUnusable
from streams.settings import KafkaSecurity, RedisSecurity, Settings
from streams.transport import faust_settings
from tests.servers import forks
from tests.servers.certificates import Certificates
from tests.servers.kafka import KafkaCluster, Security, kafka_missing_reason
from tests.servers.scores import put, remove

ROOT = Path(__file__).parents[2]
KAFKA_PASSWORD = "kafka-Pa55/word"
REDIS_PASSWORD = "redis-Pa55@wörd"
SECRETS = ("Pa55",)
SOON = 180.0
"""Seconds; a command's imports alone take some on a busy machine."""

ORDERS = "customer_id,date,amount,order_id\nanna,2026-01-01,100,1\nbert,2026-01-05,20,2\n"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    if reason := kafka_missing_reason():
        pytest.skip(reason)
    security = Security("SASL_SSL", "PLAIN", username="clv", password=KAFKA_PASSWORD)
    cluster = KafkaCluster(1, tmp_path_factory.mktemp("kafka"), security=security)
    asyncio.run(cluster.start())
    yield cluster
    cluster.kill()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make()
    return made


@contextlib.asynccontextmanager
async def tls_in_front_of(port, certificates):
    """A TLS server that hands everything on to a port of this machine, and asks who comes."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
    context.load_cert_chain(certificates.server_certificate, certificates.server_key)
    context.verify_mode = ssl.CERT_REQUIRED
    tasks = set()

    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def documented_acl(user):
    """What docs/security.md tells operators to give this user."""
    text = (ROOT / "docs/security.md").read_text().replace("\\\n", " ")
    [rules] = re.findall(rf"ACL SETUSER {user} (.*)", text)
    return rules.split()


@contextlib.asynccontextmanager
async def guarded_redis(certificates):
    """Valkey behind TLS, with nobody but the documented users; yields its port."""
    async with embedded_servers(broker=False) as servers:
        admin = redis.asyncio.Redis.from_url(servers.redis.url)
        try:
            for user in ("clv", "clv-reader"):
                rules = [r.replace("PASSWORD", REDIS_PASSWORD) for r in documented_acl(user)]
                await admin.execute_command("ACL", "SETUSER", user, *rules)
            await admin.set("other:secret", "of a neighbour")
            port = int(servers.redis.url.rpartition(":")[2].partition("/")[0])
            async with tls_in_front_of(port, certificates) as tls_port:
                await admin.execute_command("ACL", "SETUSER", "default", "off")
                yield tls_port
        finally:
            await admin.aclose()


def redis_security(certificates, **changes):
    return RedisSecurity(
        **{
            "username": "clv",
            "password": REDIS_PASSWORD,
            "ca_file": certificates.ca,
            "certificate_file": certificates.client_certificate,
            "key_file": certificates.client_key,
            **changes,
        }
    )


def environment(kafka, certificates, redis_port, **changes):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "CLV_ERASURE_KEY" or not name.startswith("CLV_")
    }
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "CLV_BROKER": f"127.0.0.1:{kafka.nodes[0].port}",
        "CLV_KAFKA_SECURITY__PROTOCOL": "SASL_SSL",
        "CLV_KAFKA_SECURITY__MECHANISM": "PLAIN",
        "CLV_KAFKA_SECURITY__USERNAME": "clv",
        "CLV_KAFKA_SECURITY__PASSWORD": KAFKA_PASSWORD,
        "CLV_KAFKA_SECURITY__CA_FILE": str(kafka.certificates.ca),
        "CLV_REDIS": f"rediss://127.0.0.1:{redis_port}/0",
        "CLV_REDIS_SECURITY__USERNAME": "clv",
        "CLV_REDIS_SECURITY__PASSWORD": REDIS_PASSWORD,
        "CLV_REDIS_SECURITY__CA_FILE": str(certificates.ca),
        "CLV_REDIS_SECURITY__CERTIFICATE_FILE": str(certificates.client_certificate),
        "CLV_REDIS_SECURITY__KEY_FILE": str(certificates.client_key),
        "CLV_PARTITIONS": "1",
        **changes,
    }


async def clv(env, *arguments):
    """Run a command to its end: status, stdout, stderr."""
    process = await forks.start(
        sys.executable, "-m", "streams.cli", *arguments, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), SOON)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode, out.decode(), err.decode()


def command_line_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def assert_no_secret(*texts):
    for text in texts:
        for secret in SECRETS:
            assert secret not in text


@pytest.mark.kafka
async def test_a_worker_folds_over_tls_and_logins_and_no_password_is_seen(
    kafka, certificates, tmp_path
):
    orders = tmp_path / "orders.csv"
    orders.write_text(ORDERS)
    log = tmp_path / "worker.log"
    async with guarded_redis(certificates) as port:
        env = environment(kafka, certificates, port)
        with log.open("wb") as file:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "streams.cli", "worker", "--verbose", env=env,
                stdout=file, stderr=file,
            )  # fmt: skip
        try:
            loaded = await clv(env, "load", str(orders), "--no-tick", "--currency", "USD")
            assert loaded[0] == 0, loaded
            broker = Broker(
                env["CLV_BROKER"],
                KafkaSecurity(
                    protocol="SASL_SSL", mechanism="PLAIN", username="clv",
                    password=KAFKA_PASSWORD, ca_file=kafka.certificates.ca,
                ),
            )  # fmt: skip
            async with AIOKafkaConsumer(
                "clv.updates", auto_offset_reset="earliest", **broker.client_options()
            ) as consumer:
                keys = {(await asyncio.wait_for(consumer.getone(), SOON)).key for _ in range(2)}
            assert keys == {b"anna", b"bert"}
            client = connect(env["CLV_REDIS"], redis_security(certificates))
            try:
                until = time.monotonic() + SOON
                while await ScoreCache(client).size() < 2:
                    assert time.monotonic() < until, log.read_text()[-2_000:]
                    await asyncio.sleep(0.1)
            finally:
                await client.aclose()
            command_line = command_line_of(worker.pid)
            *doctors, shown = await asyncio.gather(
                clv(env, "doctor"), clv(env, "doctor", "--json"), clv(env, "show", "anna")
            )
        finally:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)
            await asyncio.wait_for(worker.wait(), SOON)
    assert worker.returncode == 0, log.read_text()[-3_000:]
    assert [status for status, _, _ in doctors] == [0, 0], doctors
    assert shown[0] == 0, shown
    said = log.read_text()
    assert "SaslHandShake" in said
    assert_no_secret(said, command_line, *shown[1:], *doctors[0][1:], *doctors[1][1:])


KAFKA_FAULTS = {
    "a wrong password": (
        {"CLV_KAFKA_SECURITY__PASSWORD": "wrong-Pa55"},
        "refuses the login of 'clv'",
    ),
    "a certificate of an unknown authority": (
        {"CLV_KAFKA_SECURITY__CA_FILE": "OTHER_CA"},
        "certificate that is not trusted",
    ),
    "no TLS where it is asked for": (
        {"CLV_KAFKA_SECURITY__PROTOCOL": "SASL_PLAINTEXT"},
        "hangs up: see whether kafka_security.protocol",
    ),
    "a mechanism it does not have": (
        {"CLV_KAFKA_SECURITY__MECHANISM": "SCRAM-SHA-512"},
        "takes no login by SCRAM-SHA-512",
    ),
    "a file that is not there": (
        {"CLV_KAFKA_SECURITY__CA_FILE": "/nowhere.pem"},
        "kafka_security.ca_file /nowhere.pem",
    ),
}


@pytest.mark.kafka
@pytest.mark.parametrize("fault", KAFKA_FAULTS)
async def test_worker_and_doctor_say_at_once_why_kafka_lets_nobody_in(fault, kafka, certificates):
    changes, told = KAFKA_FAULTS[fault]
    changes = {n: str(certificates.ca) if v == "OTHER_CA" else v for n, v in changes.items()}
    async with embedded_servers(broker=False) as servers:
        env = environment(kafka, certificates, 1, **changes)
        env = {n: v for n, v in env.items() if not n.startswith("CLV_REDIS")}
        env["CLV_REDIS"] = servers.redis.url
        worker, doctor = await asyncio.gather(clv(env, "worker"), clv(env, "doctor"))
    assert (worker[0], doctor[0]) == (1, 1)
    [line] = [line for line in worker[2].splitlines() if line.startswith("error:")]
    assert told in line
    assert told in doctor[1]
    assert_no_secret(*worker[1:], *doctor[1:])


REDIS_FAULTS = {
    "a wrong password": (
        {"CLV_REDIS_SECURITY__PASSWORD": "wrong-Pa55"},
        "username-password",
    ),
    "a wrong password in the URL": (
        {"CLV_REDIS": "rediss://clv:wrong-Pa55@127.0.0.1:PORT/0"},
        "username-password",
    ),
    "a certificate of an unknown authority": (
        {"CLV_REDIS_SECURITY__CA_FILE": "OTHER_CA"},
        "certificate verify failed",
    ),
    "certificates, but no TLS": ({"CLV_REDIS": "redis://127.0.0.1:PORT/0"}, "write rediss://"),
}


@pytest.mark.kafka
@pytest.mark.parametrize("fault", REDIS_FAULTS)
async def test_worker_and_doctor_say_at_once_why_redis_lets_nobody_in(fault, kafka, certificates):
    changes, told = REDIS_FAULTS[fault]
    async with guarded_redis(certificates) as port:
        others = {"OTHER_CA": str(kafka.certificates.ca)}
        changes = {n: others.get(v, v).replace("PORT", str(port)) for n, v in changes.items()}
        env = environment(kafka, certificates, port, **changes)
        worker, doctor = await asyncio.gather(clv(env, "worker"), clv(env, "doctor"))
    assert (worker[0], doctor[0]) == (1, 1)
    [line] = [line for line in worker[2].splitlines() if line.startswith("error:")]
    assert told in line
    assert told in doctor[1]
    assert_no_secret(*worker[1:], *doctor[1:])


async def test_the_documented_redis_users_can_do_their_work_and_nothing_else(certificates):
    score = CachedScore("anna", 1, 12.5, (("tier", "gold"),), b"{}")
    async with guarded_redis(certificates) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        worker = connect(url, redis_security(certificates))
        reader = connect(url, redis_security(certificates, username="clv-reader"))
        try:
            assert await put(ScoreCache(worker), [score]) == 1
            assert await ScoreCache(worker).marks([0, 1]) == ["", ""]
            for client in (worker, reader):
                cache = ScoreCache(client)
                assert await cache.get("anna") == score
                assert [each.customer_id for each in await cache.top(1)] == ["anna"]
                assert (await cache.totals("tier"))["gold"].customers == 1
                assert [each.customer_id for each in await cache.members("tier", "gold")] == [
                    "anna"
                ]
            cache = ScoreCache(reader)
            (first,) = await cache.ranked(1)
            assert await cache.ranked(1, first) == []
            assert await cache.walk(0, 10, [("tier", "gold")]) == (1, [(0, first)])
            assert (await cache.counts_below([12.5]), await cache.count_above(12.0)) == ([0], 1)
            assert await cache.values_at([0, 1]) == [12.5, None]
            for client in (worker, reader):
                for forbidden in (("GET", "other:secret"), ("FLUSHALL",), ("CONFIG", "GET", "*")):
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        await client.execute_command(*forbidden)
            with pytest.raises(redis.exceptions.NoPermissionError):
                await reader.hset("clv:customer:anna", "clv", "1000000")
            assert await remove(ScoreCache(worker), [Removal("anna", 2)]) == 1
            await put(ScoreCache(worker), [score._replace(position=3)])
            assert await ScoreCache(worker).check_whole(await ScoreCache(worker).facts())
            repaired = await ScoreCache(worker).repair(await ScoreCache(worker).facts())
            assert (repaired.customers, repaired.broken) == (1, 0)
            assert (await ScoreCache(worker).standing(0, 1)).mark == ""
            assert not await ScoreCache(worker).finish(0, ("0/1.a", "1"), 1, 1)
            assert [each async for each in ScoreCache(worker).scan_customers()] == [["anna"]]
            assert await ScoreCache(worker).clear() > 0
        finally:
            await worker.aclose()
            await reader.aclose()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:Pa55@host:6379/0", "redis://user:***@host:6379/0"),
        ("rediss://:Pa55@host/0", "rediss://:***@host/0"),
        ("redis://Pa55@host/0", "redis://***@host/0"),
        ("redis://user:Pa55/@#?x@host/0", "redis://user:***@host/0"),
        ("redis://host/0?password=Pa55&db=1", "redis://host/0?password=***&db=1"),
        ("user:Pa55@host:9092", "user:***@host:9092"),
        ("a:1,user:Pa55@b:2", "a:***@b:2"),
        ("not set", "not set"),
    ],
)
def test_a_shown_url_has_no_password(url, shown):
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "variables",
    [
        {"CLV_KAFKA_SECURITY": '{"protocol": "NONE", "password": "Pa55"}'},
        {"CLV_KAFKA_SECURITY": '{"protocol": "SASL_SSL", "password": "Pa55"}'},
        {"CLV_KAFKA_SECURITY__PASWORD": "Pa55"},
        {"CLV_KAFKA_SECURITY": '{"password": "Pa55"'},
        {"CLV_KAFKA_SECURITY": '"Pa55"'},
        {"CLV_REDIS_SECURITY__PASSWORD__VALUE": "Pa55"},
        {"CLV_REDIS_SECURITY": '["Pa55"]'},
        {"CLV_BROKER": "user:Pa55@host:port"},
    ],
    ids=repr,
)
def test_a_configuration_that_is_refused_shows_no_password(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError) as refused:
        need_broker(load_settings())
    assert_no_secret(str(refused.value))


def test_a_wrong_value_that_is_no_secret_is_still_shown(monkeypatch):
    monkeypatch.setenv("CLV_KAFKA_SECURITY__PROTOCOL", "TLS")
    with pytest.raises(CommandError, match="got 'TLS'"):
        load_settings()


def test_a_login_needs_both_name_and_password():
    with pytest.raises(ValidationError, match="needs username and password"):
        KafkaSecurity(protocol="SASL_SSL", username="clv")


def test_a_broker_shows_its_address_and_nothing_else():
    security = KafkaSecurity(protocol="SASL_PLAINTEXT", username="clv", password="Pa55")
    broker = Broker("a:1,b:2", security)
    assert str(broker) == "a:1,b:2"
    settings = Settings(broker="a:1", kafka_security=security)
    assert_no_secret(repr(broker), repr(settings), str(settings), repr(faust_settings(broker)))
    assert [str(url) for url in faust_settings(broker)["broker"]] == ["kafka://a:1", "kafka://b:2"]
    assert broker.client_options()["sasl_plain_password"] == "Pa55"


def test_tls_always_checks_the_certificate_and_the_name(certificates):
    security = KafkaSecurity(protocol="SSL", ca_file=certificates.ca)
    context = Broker("a:1", security).client_options()["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    kwargs = connect("rediss://a", RedisSecurity()).connection_pool.connection_kwargs
    made = redis.asyncio.SSLConnection(**kwargs).ssl_context.get()
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert made.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_files_that_are_no_certificates_are_named(certificates, tmp_path):
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for fields in (
        {"ca_file": junk},
        {"certificate_file": junk, "key_file": junk},
        {"certificate_file": certificates.client_certificate, "key_file": certificates.server_key},
    ):
        with pytest.raises(SecurityUnusable) as refused:
            Broker("a:1", KafkaSecurity(protocol="SSL", **fields)).client_options()
        assert str(next(iter(fields.values()))) in str(refused.value)


def test_a_url_that_is_none_is_refused_without_its_password():
    with pytest.raises(ValueError, match="no Redis URL") as refused:
        connect("redis://user:12Pa55/x@host:1/0")
    assert_no_secret(str(refused.value))


def test_the_login_of_the_url_comes_before_the_configured_one():
    security = RedisSecurity(username="clv", password="Pa55")
    kwargs = connect("redis://me:mine@host", security).connection_pool.connection_kwargs
    assert (kwargs["username"], kwargs["password"]) == ("me", "mine")
    kwargs = connect("redis://host", security).connection_pool.connection_kwargs
    assert (kwargs["username"], kwargs["password"]) == ("clv", "Pa55")


def test_no_log_has_a_login_or_the_values_of_variables(capsys, monkeypatch):
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    try:
        configure_logging(verbose=True)
        log = logging.getLogger("aiokafka.conn")
        log.debug("Request %d: %s", 1, SaslAuthenticateRequest_v1(b"\0the-worker\0Pa55"))
        log.debug("another line")
        secret = "Pa55"
        try:
            raise OSError(f"of {len(secret)}")
        except OSError:
            log.exception("failed")
    finally:
        logging.getLogger().handlers = handlers
        logging.getLogger().setLevel(level)
    said = capsys.readouterr().err
    assert "another line" in said
    assert "of 4" in said
    # The test stands in the traceback, with what it calls itself.
    assert "the-worker" not in said.replace('"\\0the-worker\\0Pa55"', "")
    assert "'Pa55'" not in said.replace('secret = "Pa55"', "")


def test_a_hundred_thousand_nested_arrays_are_one_refused_record():
    bomb = b'{"specversion":"1.0","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(Refused) as refused:
        decode(b"anna", bomb, [])
    assert refused.value.reason is Reason.NOT_JSON
