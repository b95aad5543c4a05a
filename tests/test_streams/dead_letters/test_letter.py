"""What is read in a letter, and how its fields are corrected."""

import json
from datetime import UTC, datetime

import pytest

from models.contracts import Reason
from models.contracts.dead_letters import DeadLetter, noted, retried_note, split_headers
from streams.dead_letters.corrections import Correction, CorrectionFailed, corrected
from streams.dead_letters.documents import printable
from streams.dead_letters.letter import glance, read_letter
from streams.dead_letters.selection import Selection, parse_place
from tests.test_streams.dead_letters.support import Record, letter_of, refused_headers


class TestLetter:
    def test_headers_of_the_record_are_told_from_those_of_the_refusal(self):
        theirs = [*refused_headers(Reason.BATCH, offset=1), ("x", None)]
        letter = read_letter(Record(b"v", [*theirs, *refused_headers(offset=9)]))
        assert letter.headers == theirs
        assert letter.reason == "not-json"
        assert letter.came_from == "shop.orders[0]@9"

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("clv.retried", b"0/1"), ("more", b"")],
            [("__streams.errors.exception", b"clv.refused.empty")],
            [*refused_headers()[:-1], ("__streams.errors.offset", b"-1")],
        ],
    )
    def test_a_record_that_is_no_letter_is_listed_as_unknown(self, headers):
        letter = read_letter(Record(b"v", headers))
        assert letter.reason == "unknown"
        assert letter.headers == headers

    def test_notes_are_read_back_and_nothing_else_is_a_note(self):
        assert noted(retried_note(3, 17)) == (3, 17)
        for value in (b"", b"3", b"3/", b"a/1", b"-1/2", None):
            assert noted([("clv.retried", value)]) is None
        assert noted([*refused_headers(), ("clv.retried", b"1/2")]) is None

    def test_a_null_header_does_not_keep_a_letter_from_being_read(self):
        split = split_headers([("x", None), *refused_headers(offset=4)])
        assert split is not None
        assert DeadLetter.from_headers([("x", None), *refused_headers(offset=4)]).offset == 4

    def test_a_binary_event_is_described_by_its_headers(self):
        headers = refused_headers(headers=[("ce_type", b"order.placed"), ("CE_ID", b"7")])
        found = glance(letter_of({"customer_id": "c9"}, headers=headers))
        assert (found.customer, found.event_type, found.event_id) == ("c9", "order.placed", "7")
        assert not found.structured

    @pytest.mark.parametrize(
        "value",
        [None, b"", b"\xff", b"[" * 100_000, b'"x"', b"1" * 5_000, b'{"data": 3, "type": 4}'],
    )
    def test_whatever_the_value_is_a_letter_can_be_described(self, value):
        found = glance(read_letter(Record(value)))
        assert (found.customer, found.event_type, found.event_id) == ("k", None, None)

    def test_places_are_read_in_both_forms(self):
        assert parse_place("3/17", "t") == (3, 17)
        assert parse_place("t[3]@17", "t") == (3, 17)
        for text in ("u[3]@17", "3", "3/x", "t[3]"):
            with pytest.raises(ValueError, match=r"write partition|another topic"):
                parse_place(text, "t")

    def test_a_selection_asks_for_everything_it_names(self):
        letter = letter_of({"data": {"customer_id": "c1"}})
        at = datetime.fromtimestamp(1, UTC)
        assert letter in Selection("not-json", "shop.orders", "c1", at, frozenset({(1, 2)}))
        for other in (
            Selection(reason="empty"),
            Selection(topic="shop.support"),
            Selection(customer="k"),
            Selection(since=at.replace(second=2)),
            Selection(places=frozenset({(2, 1)})),
        ):
            assert letter not in other

    def test_what_a_terminal_would_obey_is_escaped(self):
        assert printable("\x1b[2J\u202eé\n\ud800") == r"\x1b[2J\u202eé\n\ud800"
        assert printable(b"\xff1234", 4) == "\\xff… (4 more)"


class TestCorrections:
    @pytest.mark.parametrize(
        ("text", "field", "value"),
        [
            ("data.currency=EUR", "data.currency", "EUR"),
            ("data.total=12", "data.total", "12"),
            ("data.note=a:=b=c", "data.note", "a:=b=c"),
            ("data.score:=9", "data.score", 9),
            ("data.items[0].sku=x", "data.items[0].sku", "x"),
        ],
    )
    def test_fields_and_values_are_read(self, text, field, value):
        assert Correction.parse(text) == (field, value)

    @pytest.mark.parametrize("text", ["", "x", "=1", "a..b=1", "a[x]=1", "a:=", "a:={"])
    def test_what_cannot_be_read_is_refused(self, text):
        with pytest.raises(ValueError, match=r"FIELD=TEXT|is not JSON"):
            Correction.parse(text)

    def test_only_the_named_fields_change(self):
        event = {"id": "é", "data": {"items": [{"sku": "a"}, {"sku": "b"}], "n": 0.1}}
        wanted = [Correction("data.items[1].sku", "c"), Correction("data.customer_id", "c1")]
        value = corrected(letter_of(event), wanted)
        assert json.loads(value) == {
            "id": "é",
            "data": {"items": [{"sku": "a"}, {"sku": "c"}], "n": 0.1, "customer_id": "c1"},
        }

    def test_without_corrections_every_byte_stays(self):
        assert corrected(read_letter(Record(b'{ "a" : 1.0 }')), []) == b'{ "a" : 1.0 }'

    @pytest.mark.parametrize(
        ("field", "document"),
        [
            ("data.items[2]", {"data": {"items": [1]}}),
            ("data.items[0]", {"data": {"items": {}}}),
            ("data.total", {"data": "text"}),
            ("data.a.b", {"data": {"a": 1}}),
            ("data", []),
            ("data.x", {"data": {"n": float("nan")}}),
        ],
    )
    def test_a_field_that_has_no_place_is_refused(self, field, document):
        with pytest.raises(CorrectionFailed):
            corrected(letter_of(document), [Correction(field, "x")])
