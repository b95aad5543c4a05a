"""The command line, as a person runs it: in a process of its own."""

import csv
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from models.contracts.parameters import Parameters
from models.prior import prior
from streams.cli import app
from streams.cli.console import CommandError
from streams.cli.listed import COMMANDS, Commands
from streams.cli.sources import open_source, parse_columns, parse_moment
from streams.settings import Settings
from streams.versions import core

from .commands import CLV, ROOT, clv, environment, refused, started, until

DEFAULTS = Settings()

ORDERS = """\
customer_id,date,amount,order_id,cost_of_goods
anna,2026-01-01,100.00,1,40.00
anna,2026-01-11,50.00,2,20.00
anna,2026-01-11,30.00,3,
bert,2026-01-05,20.00,4,
bert,2026-01-06,-5.00,r1,
carl,2026-02-05,10.00,5,
"""


def test_the_version_is_the_installed_packages_and_says_how_the_core_runs():
    done = clv("--version")
    assert (done.returncode, done.stdout) == (0, f"clv {version('clv-streams')}, core {core()}\n")


def test_the_list_of_commands_imports_none_of_them():
    source = (
        "import sys\nfrom streams.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", source, "--help"],
        cwd=ROOT, capture_output=True, check=True, text=True, env=environment(),
    )  # fmt: skip
    imported = done.stderr.split()
    ours = {name for name in imported if name.split(".")[0] in {"streams", "models"}}
    assert ours == {"streams", "streams.cli", "streams.cli.listed"}
    packages = {name.split(".")[0] for name in imported}
    assert not packages & {
        "aiohttp", "aiokafka", "asyncio", "faust", "logging", "numpy", "pydantic", "redis", "rich",
        "scipy", "structlog",
    }  # fmt: skip
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_the_command_says_of_itself(name: str):
    group = typer.main.get_command(app)
    assert isinstance(group, Commands)
    group.load(name)
    said = " ".join((group.commands[name].help or "").partition("\n\n")[0].split())
    assert said.startswith(COMMANDS[name])
    assert COMMANDS[name].endswith(".")


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {row["customer_id"]: row for row in csv.DictReader(io.StringIO(text))}


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS)
    return path


def test_a_refusal_is_one_message_and_status_1(tmp_path):
    done = started("score", tmp_path / "none.csv")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: {tmp_path / 'none.csv'}: there is no such file\n"


class TestScore:
    def test_values_are_those_computed_by_hand(self, orders):
        weak = orders.with_name("prior.json")
        weak.write_text(prior("EUR").model_dump_json())
        done = started(
            "score", orders, "--currency", "EUR", "--as-of", "2026-01-31", "--parameters", weak
        )
        assert done.returncode == 0, done.stderr
        assert "1 events are not before 2026-02-01T00:00:00+00:00" in done.stderr
        found = rows_of(done.stdout)
        assert set(found) == {"anna", "bert"}
        anna, bert = found["anna"], found["bert"]
        assert (anna["frequency"], anna["recency"], anna["T"]) == ("1", "10", "30")
        assert float(anna["monetary_value"]) == 50 + 30
        # 60 + 30 earned, and 30 % of the third order.
        realised = (100 - 40) + (50 - 20) + 0.30 * 30
        assert float(anna["realised"]) == pytest.approx(realised)
        assert float(anna["purchase_value"]) == pytest.approx(180 / 2)
        # 90 of 150 by what was told, and 30 % of twenty purchases; a tenth of a contact for each of
        # the purchases to come, and a third of that after two without any.
        share = (90 + 20 * 90 * 0.30) / (150 + 20 * 90)
        each = 90 * share - 0.1 / 3 * 4.0
        purchases = float(anna["expected_purchases"])
        assert 1 < purchases < 5
        assert float(anna["expected"]) == pytest.approx(purchases * each)
        assert float(anna["expected_low"]) == 0
        assert float(anna["expected_high"]) > float(anna["expected"])
        assert float(anna["clv"]) == pytest.approx(realised + purchases * each)
        # Without a past, the bound to enter counts, not the .5 at which an active one leaves.
        assert 0.5 < float(anna["p_purchase"]) < 0.7
        assert float(anna["p_purchase"]) < float(anna["p_alive"]) < 1
        assert (anna["lifecycle"], anna["behaviour"]) == ("needs attention", "regular")
        assert float(bert["realised"]) == pytest.approx(0.30 * 20 - 5)
        assert 0 < float(bert["expected"]) < float(anna["expected"])
        assert (bert["lifecycle"], bert["behaviour"]) == ("new", "one-time")
        assert {row["currency"] for row in found.values()} == {"EUR"}

    def test_json_says_the_same_as_csv(self, orders, tmp_path):
        common = ("score", orders, "--currency", "EUR")
        as_csv = rows_of(clv(*common).stdout)
        written = tmp_path / "out.json"
        done = clv(*common, "--format", "json", "--output", written)
        assert done.stdout == ""
        for row in json.loads(written.read_text()):
            texts = {name: "" if value is None else str(value) for name, value in row.items()}
            assert texts == as_csv[row["customer_id"]]

    def test_csv_lines_end_as_rfc_4180_says(self, orders, tmp_path):
        written = tmp_path / "out.csv"
        clv("score", orders, "--currency", "EUR", "--output", written)
        lines = written.read_bytes().split(b"\r\n")
        assert len(lines) == 5
        assert lines[-1] == b""
        assert not any(b"\n" in line for line in lines)

    def test_texts_that_are_formulas_are_exact_or_made_safe_and_numbers_stay(self, tmp_path):
        names = ["=1+1", "+1", "-1", "@SUM(1)", "＝1", "a=b", "'x"]
        path = tmp_path / "orders.csv"
        path.write_text(
            "customer_id,date,amount\n"
            + "".join(f"{name},2026-01-01,-5.00\n{name},2026-01-02,1\n" for name in names)
        )
        common = ("score", path, "--currency", "EUR")
        exact, safe = (rows_of(clv(*common, *more).stdout) for more in ((), ["--spreadsheet-safe"]))
        assert set(exact) == set(names)
        assert set(safe) == {"'=1+1", "'+1", "'-1", "'@SUM(1)", "'＝1", "a=b", "'x"}
        assert float(safe["'=1+1"]["realised"]) == float(exact["=1+1"]["realised"]) < 0
        assert "'" not in "".join(safe["a=b"].values())

    def test_json_has_no_formulas_to_make_safe(self, orders):
        said = refused("score", orders, "--format", "json", "--spreadsheet-safe", status=2)
        assert "--spreadsheet-safe is for --format csv" in said

    def test_columns_of_any_name_can_be_mapped(self, orders, tmp_path):
        theirs = tmp_path / "theirs.csv"
        theirs.write_text(ORDERS.replace("customer_id,date,amount", "Kunde,Tag,Betrag"))
        common = ("--currency", "EUR", "--as-of", "2026-01-31")
        # Order ids made from the file's name differ; these files name their orders.
        mapped = clv(
            "score", theirs, *common, "--columns", "customer_id=Kunde", "--columns",
            "time=Tag,amount=Betrag",
        )  # fmt: skip
        assert mapped.returncode == 0, mapped.stderr
        assert mapped.stdout == clv("score", orders, *common).stdout

    def test_given_parameters_are_used(self, orders, tmp_path):
        parameters = Parameters(
            version="by-hand",
            currency="EUR",
            fitted_until="2026-01-01T00:00:00Z",
            customers=1,
            log_likelihood=-1,
            purchases={"r": 1.0, "alpha": 30.0, "a": 1.0, "b": 3.0},
        )
        path = tmp_path / "parameters.json"
        path.write_text(parameters.model_dump_json())
        done = clv(
            "score", orders, "--currency", "EUR", "--as-of", "2026-01-31", "--parameters", path
        )
        anna, bert = rows_of(done.stdout)["anna"], rows_of(done.stdout)["bert"]
        # P(alive) = 1 / (1 + a / (b + x - 1) ((alpha + T) / (alpha + t_x))^(r + x)).
        odds = 1 / 3 * ((30 + 30) / (30 + 10)) ** 2
        assert float(anna["p_alive"]) == pytest.approx(1 / (1 + odds))
        assert float(bert["p_alive"]) == 1
        assert anna["model"] == "bg-nbd"
        assert "by-hand" in done.stderr

    def test_cdnow_is_fitted_on_itself(self):
        done = clv("score", "cdnow", "--as-of", "1997-03-31")
        assert done.returncode == 0, done.stderr
        assert "parameters fitted on 23570 customers of cdnow itself" in done.stderr
        found = rows_of(done.stdout)
        assert len(found) == 23_570
        gold = sum(row["tier"] == "gold" for row in found.values())
        assert gold == pytest.approx(2_357, rel=0.02)
        assert all(0 <= float(row["p_alive"]) <= 1 for row in found.values())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ((), "there is no currency"),
            (("--currency", "XXQ"), "'XXQ' is not an ISO 4217 currency code"),
            (("--currency", "EUR", "--as-of", "soon"), "--as-of is 'soon'"),
            (
                ("--currency", "EUR", "--as-of", "2020-01-01"),
                "none of 6 events is before 2020-01-02",
            ),
            (("--currency", "EUR", "--timezone", "Mars"), "'Mars' is not a time zone"),
            (("--currency", "EUR", "--columns", "sum=amount"), "'sum' is not one of our fields"),
            (("--currency", "EUR", "--columns", "amount"), "write our=theirs"),
            (("--currency", "EUR", "--simulated"), "are for data sets"),
            (("--currency", "EUR", "--parameters", "/dev/null"), "these are no parameters"),
        ],
    )
    def test_what_cannot_be_done_is_one_message(self, orders, options, message):
        assert message in refused("score", orders, *options)

    def test_a_wrong_row_is_named_by_line_and_column(self, orders):
        orders.write_text(ORDERS.replace("50.00", "fifty"))
        assert "orders.csv:3: amount (column 'amount') is 'fifty'" in refused(
            "score", orders, "--currency", "EUR"
        )

    def test_a_wrong_row_can_be_counted_instead(self, orders):
        orders.write_text(ORDERS.replace("50.00", "fifty"))
        done = clv("score", orders, "--currency", "EUR", "--keep-going")
        assert done.returncode == 0
        assert "1 of 6 events were refused" in done.stderr
        assert float(rows_of(done.stdout)["anna"]["monetary_value"]) == 30

    def test_a_missing_file_and_a_data_set_that_is_not_there(self, tmp_path):
        assert "there is no such file" in refused("score", tmp_path / "none.csv")
        message = refused("score", "online-retail", CLV_DATA_DIR=str(tmp_path))
        assert "online_retail_invoices.csv.gz is missing" in message

    def test_wrong_usage_has_status_2(self, orders):
        assert "name a FILE or a DATASET" in refused("score", status=2)
        assert "Missing argument" in refused("load", status=2)
        assert "--parameters" in refused(
            "score", orders, "--model", "mbg-nbd", "--parameters", "x.json", status=2
        )


class TestFit:
    def test_the_sample_gives_the_published_estimates(self, tmp_path):
        """Fader, Hardie & Lee (2005): 39 weeks of 2,357 customers."""
        path = tmp_path / "parameters.json"
        done = clv(
            "fit", "cdnow", "--in-sample", "--model", "bg-nbd", "--until", "1997-09-30",
            "--time-unit", "week", "--no-prior", "--json", "--output", path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        assert document["customers"] == 2_357
        assert document["log_likelihood"] == pytest.approx(-9582.429, abs=0.001)
        published = {"r": 0.2425945, "alpha": 4.4136019, "a": 0.7929199, "b": 2.4258881}
        estimates = {name: document["purchases"][name] for name in published}
        assert estimates == pytest.approx(published, rel=1e-4)
        assert json.loads(path.read_text()) == document
        assert "Gamma-Poisson is not fitted" in done.stderr

    def test_all_customers_over_the_same_weeks(self):
        done = clv(
            "fit", "cdnow", "--until", "1997-09-30", "--time-unit", "week", "--json"
        )  # fmt: skip
        assert json.loads(done.stdout)["customers"] == 23_570

    def test_people_get_a_table(self):
        done = clv("fit", "cdnow", "--in-sample", "--until", "1997-09-30")
        assert "2,357" in done.stdout
        assert "BG/NBD alpha" in done.stdout

    def test_three_customers_are_fitted_too(self, orders):
        done = clv("fit", orders, "--currency", "EUR", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["customers"], found["model"]) == (3, "mbg-nbd")
        assert all(0.1 < found["purchases"][name] < 10 for name in ("r", "a", "b"))

    def test_without_a_prior_nobody_who_came_back_is_one_message(self, orders):
        once = orders.with_name("once.csv")
        once.write_text("customer_id,date,amount\nanna,2026-01-01,9.00\nbert,2026-01-02,9.00\n")
        given = "fit", once, "--currency", "EUR", "--no-prior"
        assert "none of 2 customers has a repeat purchase" in refused(*given)

    def test_publishing_needs_a_broker(self):
        assert "set CLV_BROKER" in refused("fit", "cdnow", "--in-sample", "--publish")


class TestConfiguration:
    @pytest.mark.parametrize("command", [("load", "cdnow"), ("worker",)])
    def test_without_a_broker_it_says_what_to_set(self, command):
        message = refused(*command)
        assert "set CLV_BROKER=host:port" in message
        assert "clv demo" in message

    @pytest.mark.parametrize("command", [("show", "anna"), ("top",), ("segments",)])
    def test_without_a_redis_it_says_what_to_set(self, command):
        assert "set CLV_REDIS=redis://host:port/0" in refused(*command)

    def test_wrong_values_are_named_with_their_variable(self):
        message = refused("top", CLV_ECONOMICS__MARGIN="2", CLV_PARTITIONS="few")
        assert "CLV_ECONOMICS__MARGIN" in message
        assert "CLV_PARTITIONS" in message
        assert "'few'" in message

    def test_a_wrong_time_zone_is_named(self):
        assert "Mars" in refused("top", CLV_ECONOMICS__TIMEZONE="Mars")

    def test_a_configuration_file_that_is_not_there_is_an_error(self, tmp_path):
        assert "there is no such file" in refused("top", CLV_CONFIG=str(tmp_path / "clv.toml"))

    def test_a_redis_and_a_broker_that_do_not_answer(self):
        assert "Redis cannot be used" in refused("top", CLV_REDIS="redis://127.0.0.1:1/0")
        message = refused("load", "cdnow", CLV_BROKER="127.0.0.1:1")
        assert "no broker can be used: 127.0.0.1:1 cannot be reached" in message
        assert "write redis://" in refused("top", CLV_REDIS="localhost")
        assert "write host:port" in refused("load", "cdnow", CLV_BROKER="localhost:kafka")

    def test_columns_may_contain_commas(self):
        assert parse_columns(["amount=Total, net"]) == {"amount": "Total, net"}
        assert parse_columns(["amount=Total,time=Day"]) == {"amount": "Total", "time": "Day"}

    def test_a_date_is_the_end_of_that_day_and_a_time_is_local(self, orders):
        source = open_source(
            str(orders), DEFAULTS.economics, currency="EUR", timezone="Europe/Berlin"
        )
        assert source.economics.currency == "EUR"
        day = parse_moment("2026-01-31", source.economics, "--as-of")
        assert day.isoformat() == "2026-01-31T23:59:59.999000+01:00"
        noon = parse_moment("2026-01-31T12:00:00", source.economics, "--as-of")
        assert noon.isoformat() == "2026-01-31T12:00:00+01:00"
        with pytest.raises(CommandError, match="soon"):
            parse_moment("soon", source.economics, "--as-of")


class TestDoctor:
    def test_without_servers_it_warns(self):
        done = clv("doctor", "--json")
        assert done.returncode == 0
        found = {check["name"]: check["status"] for check in json.loads(done.stdout)}
        assert found["Python"] == "ok"
        assert found["broker"] == "warn"
        assert found["Redis"] == "warn"

    def test_what_does_not_answer_fails_with_advice(self):
        done = clv("doctor", CLV_BROKER="127.0.0.1:1", CLV_REDIS="redis://127.0.0.1:1/0")
        assert done.returncode == 1
        assert "does not answer" in done.stdout
        assert "correct CLV_BROKER" in done.stdout
        assert "correct CLV_REDIS" in done.stdout
        assert "Traceback" not in done.stderr

    def test_a_configuration_that_is_not_valid_fails(self):
        done = clv("doctor", "--json", CLV_PARTITIONS="few")
        assert done.returncode == 1
        assert json.loads(done.stdout)[-1]["status"] == "fail"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[dict[str, str]]:
    """`clv worker --embedded`, and the variables that name its servers and its key."""
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*CLV, "worker", "--embedded"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(CLV_ERASURE_KEY=None),
        )
    with process:
        try:
            lines = [process.stdout.readline().strip() for _ in range(4)]
            yield dict(line.split("=", 1) for line in lines)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0
        finally:
            process.kill()
    for line in (tmp_path / "log").read_text().splitlines():
        assert json.loads(line)["level"] in {"info", "warning"}


@pytest.mark.slow
def test_a_file_goes_through_a_worker_to_the_cache(worker, orders):
    loaded = clv("load", orders, "--currency", "USD", "--as-of", "2026-02-28", "--json", **worker)
    assert json.loads(loaded.stdout)["events"] == 6
    until(lambda: '"2026-02-28' in clv("show", "anna", "--json", **worker).stdout)
    until(lambda: len(json.loads(clv("top", "--json", **worker).stdout)) == 3)
    # The stream says what the same core says of the file, with the same parameters.
    fitted = orders.with_name("parameters.json")
    same = (orders, "--currency", "USD", "--as-of", "2026-02-28")
    done = clv("fit", *same, "--publish", "--output", fitted, **worker)
    assert done.returncode == 0, done.stderr
    version = Parameters.model_validate_json(fitted.read_bytes()).version
    until(lambda: version in clv("show", "anna", "--json", **worker).stdout)
    data = json.loads(clv("show", "anna", "--json", **worker).stdout)
    scored = clv("score", *same, "--parameters", fitted, "--format", "json")
    rows = sorted(json.loads(scored.stdout), key=lambda row: -row["clv"])
    row = next(row for row in rows if row["customer_id"] == "anna")
    assert data["clv"] == row["clv"]
    # A file has no past, so that the bounds to leave a segment never decide there.
    assert data["segments"].keys() <= row.keys()
    assert data["segments"]["behaviour"] == row["behaviour"]
    assert "cost to serve" in clv("show", "anna", **worker).stdout
    top = json.loads(clv("top", "-n", "2", "--json", **worker).stdout)
    assert [each["customer_id"] for each in top] == [row["customer_id"] for row in rows[:2]]
    assert "anna" in clv("top", **worker).stdout
    segments = json.loads(clv("segments", "--json", **worker).stdout)
    assert sum(each["customers"] for each in segments["lifecycle"].values()) == 3
    assert "lifecycle" in clv("segments", **worker).stdout
    assert "is not in the cache, which holds 3" in refused("show", "nobody", **worker)
    ticked = clv("tick", "--as-of", "2026-03-31", "--json", **worker)
    assert (ticked.returncode, ticked.stderr) == (0, "")
    assert json.loads(ticked.stdout)["as_of"].startswith("2026-03-31T23:59:59")
    until(lambda: '"2026-03-31' in clv("show", "carl", "--json", **worker).stdout)
    later = ("--publish", "--as-of", "2026-03-31")
    published = clv("fit", "cdnow", "--in-sample", *later, "--json", **worker)
    assert published.returncode == 0, published.stderr
    doctor = clv("doctor", "--json", **worker)
    assert doctor.returncode == 0, doctor.stdout
    found = {check["name"]: check for check in json.loads(doctor.stdout)}
    assert found["topics"]["status"] == "ok"
    assert json.loads(published.stdout)["version"] in found["parameters"]["found"]


@pytest.mark.slow
def test_a_newcomer_sees_the_value_of_the_storefronts_order(worker):
    """As docs/cli.md says it, with no setting made."""
    publish = [sys.executable, ROOT / "examples" / "storefront.py", worker["CLV_BROKER"]]
    subprocess.run(publish, check=True, timeout=60)
    until(lambda: clv("show", "c1", **worker).returncode == 0)
    data = json.loads(clv("show", "c1", "--json", **worker).stdout)
    assert (data["currency"], data["totals"]["gross"]) == ("USD", 40.0)


@pytest.mark.slow
def test_a_worker_says_soon_what_it_refuses(worker, tmp_path):
    publish = [sys.executable, ROOT / "examples" / "storefront.py", worker["CLV_BROKER"], "EUR"]
    subprocess.run(publish, check=True, timeout=60)
    until(lambda: "records refused" in (tmp_path / "log").read_text())
    lines = map(json.loads, (tmp_path / "log").read_text().splitlines())
    [line] = [line for line in lines if line.get("reason")]
    assert (line["reason"], line["topic"], line["offset"]) == ("no-exchange-rate", "shop.orders", 0)
    assert "data.currency is 'EUR'" in line["detail"]


class TestFormula:
    def test_the_published_example(self):
        given = "--order-value", "90", "--orders", "3", "--acquisition-cost", "6", "--margin", "0.2"
        done = clv("formula", "margin", *given, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["value"] == pytest.approx(52.80)
        assert said["levers"] == pytest.approx(
            {"order_value": 5.4, "orders": 5.4, "acquisition_cost": 0.12, "profit_margin": 5.28}
        )
        assert "52.80" in clv("formula", "margin", *given).stdout

    def test_the_others(self):
        given = "--order-value", "50", "--frequency", "4", "--lifespan", "3"
        assert json.loads(clv("formula", "average", *given, "--json").stdout) == {"value": 600.0}
        done = clv("formula", "value", "--benefits", "120", "--costs", "45")
        assert "75.00" in done.stdout
