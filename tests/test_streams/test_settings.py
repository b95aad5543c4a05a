"""Settings: a name that is none is refused, and says what was meant; no message has a login."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streams.addresses import without_logins
from streams.cache import connect
from streams.cli.configuration import FORMS, load_settings
from streams.cli.console import CommandError
from streams.cli.logs import configure_logging
from streams.kafka.connection import Broker, SecurityUnusable, login_password
from streams.settings import KafkaSecurity, RedisSecurity, Settings
from streams.variables import OTHER_VARIABLES, PREFIX

from .commands import ROOT, clv, refused

SECRET = "Pa55word"
"""What no message may have."""


@pytest.fixture(autouse=True)
def _nothing_is_configured(monkeypatch: pytest.MonkeyPatch):

    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def problem(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What is said of variables that are refused."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError) as refusal:
        load_settings()
    return str(refusal.value)


MISSPELT = {
    "CLV_CURRENCY": "CLV_ECONOMICS__CURRENCY=USD",
    "CLV_EXCHANGE_RATES": """(CLV_ECONOMICS__EXCHANGE_RATES='{"EUR": "1.08"}')""",
    "CLV_ECONOMICS_MARGIN": "CLV_ECONOMICS__MARGIN=0.3",
    "CLV_ECONOMIC__MARGIN": "CLV_ECONOMICS__MARGIN=0.3",
    "CLV_ECONOMICS__MARGN": "CLV_ECONOMICS__MARGIN=0.3",
    "CLV_KAFKA_SECURTY__PROTOCOL": "CLV_KAFKA_SECURITY__PROTOCOL=SASL_SSL",
    "CLV_KAFKA_SECURITY_PROTOCOL": "CLV_KAFKA_SECURITY__PROTOCOL=SASL_SSL",
    "CLV_KAFKA_SECURITY__PROTOCL": "CLV_KAFKA_SECURITY__PROTOCOL=SASL_SSL",
    "CLV_KAFKA__SECURITY__PROTOCOL": "CLV_KAFKA_SECURITY__PROTOCOL=SASL_SSL",
    "CLV_REDIS_SECURTY__CA_FILE": "CLV_REDIS_SECURITY__CA_FILE=/path/to/ca_file",
    "CLV_ERASUREKEY": "CLV_ERASURE_KEY=",
    "CLV_BROKERS": "CLV_BROKER=localhost:9092",
    "CLV_PARTITIONS__ORDERS": "CLV_",
    "CLV_XYZZY": "docs/cli.md",
    "clv_brokr": "CLV_BROKER=localhost:9092",
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_variable_that_is_no_setting_is_refused_and_says_what_was_meant(name, monkeypatch):
    said = problem(monkeypatch, **{name: SECRET})
    assert "is no setting: " in said
    assert MISSPELT[name] in said
    assert SECRET not in said


FILES = {
    "[economic]\nmargin = 0.3\n": "economics (in the file [economics]; CLV_ECONOMICS__…)",
    'currency = "EUR"\n': "economics.currency (CLV_ECONOMICS__CURRENCY=USD)",
    "[economics]\nmargn = 0.3\n": "economics.margin (CLV_ECONOMICS__MARGIN=0.3)",
    '[kafka-security]\nprotocol = "SSL"\n': "[kafka_security]",
    '[kafka_security]\nprotcol = "SSL"\n': "CLV_KAFKA_SECURITY__PROTOCOL=SASL_SSL",
    'kafka_securty.protocol = "SSL"\n': "[kafka_security]",
    'broker.host = "a"\n': "CLV_BROKER=localhost:9092",
}


@pytest.mark.parametrize("text", FILES, ids=repr)
def test_a_name_in_the_file_that_is_no_setting_is_refused_too(text, monkeypatch, tmp_path):
    file = tmp_path / "clv.toml"
    file.write_text(text)
    assert FILES[text] in problem(monkeypatch, CLV_CONFIG=str(file))


def test_a_file_of_a_comparison_is_held_to_the_same(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("")
    bad.write_text("[economic]\nmargin = 0.3\n")
    said = refused("replay", "compare", "cdnow", "--settings", f"{good}", f"{bad}")
    assert "bad.toml" in said
    assert "[economics]" in said


def test_all_that_is_wrong_is_said_at_once(monkeypatch):
    said = problem(monkeypatch, CLV_CURRENCY="EUR", CLV_PARTITIONS="few", CLV_TOPICS__ORDRES="o")
    assert {"CLV_CURRENCY", "CLV_PARTITIONS=4", "CLV_TOPICS__ORDERS"} <= set(
        re.findall(r"CLV_\w+(?:=4)?", said)
    )


@pytest.mark.parametrize("name", OTHER_VARIABLES)
def test_variables_that_are_no_settings_but_are_read_elsewhere_are_let_be(name, monkeypatch):
    if name != "CLV_CONFIG":
        monkeypatch.setenv(name, "1")
    assert load_settings().app_id == "clv"


@pytest.mark.parametrize("instead", ["__PASSWORD", "__PASSWORD_FILE"])
def test_every_variable_has_a_form_that_is_accepted(instead, monkeypatch, tmp_path):
    """A password is given in one of two ways."""
    rates = tmp_path / "rates.csv"
    rates.write_text("Date,USD\n2026-01-02,1.175\n")
    monkeypatch.setitem(FORMS, "CLV_RATES_FILE", str(rates))
    for name, form in FORMS.items():
        if "__PASSWORD" not in name or name.endswith(instead):
            monkeypatch.setenv(name, form)
    settings = load_settings()
    assert settings.broker == "localhost:9092"
    assert str(settings.economics.exchange_rates["EUR"]) == "1.08"
    assert (settings.redis_security.password is None) == (instead == "__PASSWORD_FILE")


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "No such file"), ("Datum;USD", "begins with"), ("Date,USD\nx,1", "line 2")],
)
def test_rates_that_cannot_be_read_are_refused_without_showing_other_settings(
    text, said, monkeypatch, tmp_path
):
    rates = tmp_path / "rates.csv"
    if text is not None:
        rates.write_text(text)
    monkeypatch.setenv("CLV_RATES_FILE", str(rates))
    monkeypatch.setenv("CLV_ERASURE_KEY", SECRET * 40)
    with pytest.raises(CommandError, match=said) as refused:
        load_settings()
    assert "CLV_RATES_FILE" in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("section", ["kafka_security", "redis_security"])
def test_a_password_stands_in_one_place(section):
    given = {"password": SECRET, "password_file": "/run/secrets/password"}
    with pytest.raises(ValidationError, match="not both"):
        Settings(**{section: given})


FILES_OF_PASSWORDS = {
    "": "on one line",
    "\n": "on one line",
    f"{SECRET}\n{SECRET}\n": "on one line",
    None: "No such file",
}


@pytest.mark.parametrize("content", FILES_OF_PASSWORDS, ids=repr)
def test_a_file_that_holds_no_password_is_named_and_not_shown(content, tmp_path):
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SecurityUnusable) as refusal:
        login_password("redis_security", RedisSecurity(password_file=file))
    assert f"redis_security.password_file {file}: " in str(refusal.value)
    assert FILES_OF_PASSWORDS[content] in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_kafka_and_redis_are_given_the_password_of_the_file(tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{SECRET} \n")
    login = {"username": "clv", "password_file": file}
    broker = Broker("a:1", KafkaSecurity(protocol="SASL_PLAINTEXT", **login))
    assert broker.client_options()["sasl_plain_password"] == f"{SECRET} "
    pool = connect("redis://a", RedisSecurity(**login)).connection_pool
    assert pool.connection_kwargs["password"] == f"{SECRET} "


WRONG = {
    "CLV_PARTITIONS": ("few", "CLV_PARTITIONS=4"),
    "CLV_HEALTH_PORT": ("99999", "CLV_HEALTH_PORT=8077"),
    "CLV_ECONOMICS__MARGIN": ("2", "CLV_ECONOMICS__MARGIN=0.3"),
    "CLV_ECONOMICS__EXCHANGE_RATES": ("{", """='{"EUR": "1.08"}'"""),
    "CLV_ECONOMICS__CONTACT_COSTS": ('{"phone": -1}', "CLV_ECONOMICS__CONTACT_COSTS='{"),
    "CLV_ECONOMICS__COMPLAINT_TOPICS": ("complaint", """='["complaint"]'"""),
    "CLV_ECONOMICS__TIMEZONE": ("Mars", "CLV_ECONOMICS__TIMEZONE=Europe/Berlin"),
    "CLV_KAFKA_SECURITY__PROTOCOL": ("TLS", "CLV_KAFKA_SECURITY__PROTOCOL=SASL_SSL"),
    "CLV_TOPICS": ("orders", """CLV_TOPICS='{"orders": "shop.orders"}'"""),
}


ZONES = {
    "America": "America/Adak",
    "Mars": "a name such as Europe/Berlin",
    "Europe/Berln": "did you mean Europe/Berlin?",
    "zone.tab": "a name such as Europe/Berlin",
    "": "a name such as Europe/Berlin",
    "/etc": "a name such as Europe/Berlin",
    "../etc": "a name such as Europe/Berlin",
}


@pytest.mark.parametrize("zone", ZONES)
def test_what_is_no_time_zone_is_refused_and_says_what_was_meant(zone, monkeypatch):
    said = problem(monkeypatch, CLV_ECONOMICS__TIMEZONE=zone)
    assert f"economics.timezone: {zone!r} is not a time zone; " in said
    assert ZONES[zone] in said
    assert "CLV_ECONOMICS__TIMEZONE=Europe/Berlin" in said


@pytest.mark.parametrize("rates", ["EUR=1.08", "{", "1.08", '["EUR"]', '{"EUR": "x"}'])
def test_rates_in_another_form_are_refused_with_their_form_as_a_shell_takes_it(rates, monkeypatch):
    said = problem(monkeypatch, CLV_ECONOMICS__EXCHANGE_RATES=rates)
    assert """write CLV_ECONOMICS__EXCHANGE_RATES='{"EUR": "1.08"}'""" in said


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_with_its_variable_and_the_form_of_it(name, monkeypatch):
    value, form = WRONG[name]
    said = problem(monkeypatch, **{name: value})
    assert name in said
    assert form in said


def test_a_file_that_is_no_text_is_one_message(monkeypatch, tmp_path):
    file = tmp_path / "clv.toml"
    file.write_bytes(b"\xff\xfe")
    assert "not TOML" in problem(monkeypatch, CLV_CONFIG=str(file))


LOGINS = (
    f"clv:{SECRET}@127.0.0.1:1",
    f"{SECRET}@127.0.0.1:1",
    f"kafka://clv:{SECRET}@127.0.0.1:1",
    f"127.0.0.1:1,clv:a,{SECRET}@127.0.0.1:1",
)


@pytest.mark.parametrize("address", LOGINS)
@pytest.mark.parametrize("command", [("doctor",), ("doctor", "--json"), ("tick",), ("worker",)])
def test_a_login_in_the_brokers_address_is_refused_and_not_shown(command, address):
    done = clv(*command, CLV_BROKER=address, CLV_REDIS="redis://127.0.0.1:1/0")
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "CLV_KAFKA_SECURITY__USERNAME" in said
    assert "CLV_KAFKA_SECURITY__PASSWORD" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "url",
    [
        f"redis://clv:12/{SECRET}@127.0.0.1:1/0",
        f"redis://clv:12#{SECRET}@127.0.0.1:1/0",
        f"redis://clv:12?{SECRET}@127.0.0.1:1/0",
        f"redis://[clv:{SECRET}@127.0.0.1:1/0",
        f"redis://clv:{SECRET}\N{FULLWIDTH COMMERCIAL AT}@127.0.0.1:1/0",
        f"redis://127.0.0.1:{SECRET}/0",
        f"http://clv:{SECRET}@127.0.0.1:1/0",
    ],
)
@pytest.mark.parametrize("command", [("doctor",), ("top",)])
def test_a_redis_url_that_would_be_misread_is_refused_and_not_shown(command, url):
    done = clv(*command, CLV_REDIS=url)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "redis://host:port/0" in said
    assert "Traceback" not in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "values",
    [
        {"broker": f"clv:{SECRET}@a:1"},
        {"redis": f"http://clv:{SECRET}@a:1"},
        {"kafka_security": {"password": [SECRET]}},
        {"redis_security": {"pasword": SECRET}},
        {"erasure_key": [SECRET]},
    ],
    ids=repr,
)
def test_the_error_itself_has_no_secret_where_nobody_words_it_anew(values: dict[str, Any]):
    with pytest.raises(ValidationError) as refusal:
        Settings(**values)
    assert SECRET not in str(refusal.value)
    assert SECRET not in repr(refusal.value)


TEXTS = {
    f"Error 111 connecting to redis://clv:{SECRET}@h:6379/0": (
        "Error 111 connecting to redis://clv:***@h:6379/0"
    ),
    f"from redis://:{SECRET}@a/0 to rediss://{SECRET}@b/0.": (
        "from redis://:***@a/0 to rediss://***@b/0."
    ),
    f"kafka://clv:{SECRET}/@#?x@h:1": "kafka://clv:***@h:1",
    f"Connection(password={SECRET})": "Connection(password=***",
    f'{{"event": "redis://h/0?password={SECRET}&db=1", "n": 1}}': (
        '{"event": "redis://h/0?password=***&db=1", "n": 1}'
    ),
    f"{{'username': 'clv', 'password': '{SECRET}', 'db': 0}}": (
        "{'username': 'clv', 'password': ***, 'db': 0}"
    ),
    f"{{'sasl_plain_password': b'{SECRET}'}}": "{'sasl_plain_password': ***}",
    "mail to anna@example.com of clv.updates[0]@17": (
        "mail to anna@example.com of clv.updates[0]@17"
    ),
    "see redis://host:port/0": "see redis://host:port/0",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_of_a_library_is_shown_without_the_logins_in_it(text):
    assert without_logins(text) == TEXTS[text]


@pytest.mark.parametrize("terminal", [True, False])
def test_no_log_line_has_the_login_of_a_url(terminal, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    url = f"redis://clv:{SECRET}@h:1/0"
    try:
        configure_logging(verbose=True)
        log = logging.getLogger("redis")
        log.debug("connecting to %s", url)
        log.debug("with %r", {"password": SECRET})
        try:
            raise OSError(f"cannot reach {url}")
        except OSError:
            log.exception("failed")
    finally:
        root.handlers = handlers
        root.setLevel(level)
    said = capsys.readouterr().err
    assert said.count("redis://clv:***@h:1/0") == 2
    assert SECRET not in said


def test_nobody_shows_an_address_but_by_way_of_the_one_function():
    """What is configured as an address is interpolated into no text as it stands."""
    raw = re.compile(r"\{[^{}]*\b(?:settings|configured)\.(?:broker|redis)\b[^{}]*\}")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted(Path(ROOT / "streams").rglob("*.py"))
        for line in path.read_text().splitlines()
        if raw.search(line) and "shown_url(" not in line
    ]
    assert found == []


def test_two_topics_of_one_name_are_refused(monkeypatch):
    """A help desk that may write to the topic of the erasures could erase."""
    said = problem(monkeypatch, CLV_TOPICS__SUPPORT="shop.identities")
    assert "support and identities are both 'shop.identities'" in said
    assert "CLV_TOPICS__" in said
