"""Masking of documents and streams, wherever a piece ends: nothing unmasked goes on."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.obligation_terms import DETECTORS
from sidecar.policy.terms import Redaction
from sidecar.proxy.masking import NotMaskable, masked, masked_json
from sidecar.proxy.masking_mcp import masked_message, masked_text
from sidecar.proxy.masking_stream import HELD_BYTES_MAX, EventMasker, LineMasker

MAIL = Redaction((), ("email",))
FIELD = Redaction((("body", "customer", "name"),), ())
ALL = Redaction((), DETECTORS)
CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize(("value", "path", "wanted"), [
    ({"a": {"b": 1}, "c": 2}, ("a", "b"), {"a": {"b": "***"}, "c": 2}),
    ({"a": [{"b": 1}, {"c": 3}, [{"b": 2}]]}, ("a", "b"),
     {"a": [{"b": "***"}, {"c": 3}, [{"b": "***"}]]}),
    ({"a": 1}, ("a", "b"), {"a": 1}),
    ({"a": {"b": {"c": 1}}}, ("a", "b"), {"a": {"b": "***"}}),
    ([{"a": None}], ("a",), [{"a": "***"}]),
])  # fmt: skip
def test_a_path_leads_through_lists_and_masks_whatever_is_there(
    value: Any, path: tuple[str, ...], wanted: Any
) -> None:
    before = json.dumps(value)
    assert masked(value, [path], ()) == wanted
    assert json.dumps(value) == before


def test_detectors_look_into_names_and_numbers_and_depth() -> None:
    value = {"x@y.io": [{"n": 4111111111111111, "s": f"card {CARD}"}], "t": True, "n": 41.5}
    assert masked(value, (), ("card_number", "email")) == {
        "***": [{"n": "***", "s": "card ***"}], "t": True, "n": 41.5,
    }  # fmt: skip
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    with pytest.raises(NotMaskable):
        masked(deep, (), ("email",))


def test_what_is_sent_is_what_was_looked_at() -> None:
    twice = b'{"mail": "ana@acme.io", "mail": "none", "n": 123456789012345678901234567890}'
    assert masked_json(twice, MAIL) == b'{"mail":"none","n":123456789012345678901234567890}'
    escaped = b'{"m": "ana\\u0040acme.io", "\\ud800": "x"}'
    assert masked_json(escaped, MAIL) == b'{"m":"***","\\ud800":"x"}'


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a": NaN}', b"\xff", b'{"a": 1e999}', b"[" * 100_000, b'"a" "b"']
)
def test_what_is_no_document_cannot_be_masked(data: bytes) -> None:
    with pytest.raises(NotMaskable):
        masked_json(data, MAIL)


def message(**result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": "ana@acme.io", "result": result}).encode()


def text_of(data: bytes) -> Any:
    return json.loads(data)["result"]["content"][0]["text"]


def test_a_tools_result_is_masked_as_a_structure_and_as_text() -> None:
    value = {"customer": {"name": "Ana", "id": 7}}
    content = [{"type": "text", "text": json.dumps(value)}]
    made = masked_message(message(structuredContent=value, content=content), FIELD)
    assert json.loads(text_of(made)) == {"customer": {"name": "***", "id": 7}}
    result = json.loads(made)["result"]
    assert result["structuredContent"] == {"customer": {"name": "***", "id": 7}}
    assert b"Ana" not in made
    assert json.loads(made)["id"] == "ana@acme.io", "an id is never touched"


@pytest.mark.parametrize("value", [
    {"customer": {"name": "Ana"}}, [{"customer": {"name": "Ana"}}],
    {"result": [{"customer": {"name": "Ana"}}]}, {"result": {"customer": [{"name": "Ana"}]}},
    {"result": [[{"customer": {"name": "Ana"}}]]},
])  # fmt: skip
def test_what_is_no_object_is_masked_as_it_is_told_to_clients_of_either_era(value: Any) -> None:
    """An agent chooses its revision, and by it whether a list stands below `result`."""
    content = [{"type": "text", "text": json.dumps(value)}]
    made = masked_message(message(structuredContent=value, content=content), FIELD)
    assert b"Ana" not in made
    masked_value = json.loads(json.dumps(value).replace("Ana", "***"))
    assert json.loads(made)["result"]["structuredContent"] == masked_value
    assert json.loads(text_of(made)) == masked_value


def test_below_a_member_result_that_stands_beside_others_paths_are_what_they_are() -> None:
    value = {"result": [{"customer": {"name": "Ana"}}], "more": False}
    made = masked_message(message(structuredContent=value), FIELD)
    assert json.loads(made)["result"]["structuredContent"] == value


def _deep(kind: str, depth: int) -> str:
    lists = "[" * depth + "]" * depth
    within = json.dumps('{"x":' + lists + "}")
    result = {
        "lists": '{"structuredContent":{"x":' + lists + "}}",
        "resources": '{"resource":' * depth + "{}" + "}" * depth,
        "objects": '{"structuredContent":' + '{"x":' * depth + "1" + "}" * depth + "}",
        "beside": '{"_meta":' + '{"x":' * depth + "1" + "}" * depth + "}",
        "a text": '{"content":[{"type":"text","text":' + within + "}]}",
        "a text within": '{"structuredContent":{"x":' + "[" * depth + within + "]" * depth + "}}",
    }[kind]
    return '{"jsonrpc":"2.0","id":7,"result":' + result + "}"


@pytest.mark.parametrize("redaction", [FIELD, MAIL], ids=["field", "mail"])
@pytest.mark.parametrize(
    "kind", ["lists", "resources", "objects", "beside", "a text", "a text within"]
)
def test_what_is_nested_too_deep_is_not_masked_and_no_failure_of_ours(
    kind: str, redaction: Redaction
) -> None:
    """How deep Python's reader goes differs by version."""
    assert masked_message(_deep(kind, 50), redaction), "positive control"
    for depth in (240, 300, 480, 700, 900, 3000, 9000):
        with contextlib.suppress(NotMaskable):
            masked_message(_deep(kind, depth), redaction)
        with contextlib.suppress(NotMaskable):
            masked_text(_deep(kind, depth), redaction, has_fields=True)


def test_texts_are_searched_whatever_escapes_they_are_written_with() -> None:
    for text in ("write ana@acme.io", '{"m": "ana\\u0040acme.io"}', '"ana\\u0040acme.io"'):
        made = masked_message(message(content=[{"type": "text", "text": text}]), MAIL)
        assert "acme" not in text_of(made)
    held = {"type": "resource", "resource": {"uri": "x:y", "text": "ana@acme.io"}}
    assert b"acme" not in masked_message(message(content=[held]), MAIL).partition(b"result")[2]


@pytest.mark.parametrize("item", [
    {"type": "image", "data": "AAAA"},
    {"type": "resource", "resource": {"blob": "AAAA"}},
    {"type": "text", "text": "no fields here"},
])  # fmt: skip
def test_what_cannot_be_read_cannot_be_masked(item: dict[str, Any]) -> None:
    with pytest.raises(NotMaskable):
        masked_message(message(content=[item]), FIELD)
    masked_message(message(content=[{"type": "text", "text": "[]"}]), FIELD)


def test_an_errors_text_has_no_fields() -> None:
    content = [{"type": "text", "text": "ana@acme.io was not found"}]
    both = Redaction(FIELD.paths, MAIL.detectors)
    made = masked_message(message(isError=True, content=content), both)
    assert text_of(made) == "*** was not found"


VALUE: dict[str, Any] = {"customer": {"name": "Ana", "id": 7}}


@pytest.mark.parametrize("said", [
    {"result": {"content": [], "structuredContent": {"result": json.dumps(VALUE)}}},
    {"result": {"content": [], "structuredContent": {"result": [json.dumps(VALUE)]}}},
    {"result": {"content": [], "structuredContent": {"result": [VALUE, VALUE]}}},
    {"result": {"content": [], "structuredContent": {"data": VALUE}}},
    {"result": VALUE},
    {"result": {"content": [], "rows": 1, **VALUE}},
    {"result": {"content": [], "_meta": VALUE}},
    {"result": {"toolResult": VALUE}},
    {"result": {"content": [{"type": "text", "text": "{}", "_meta": VALUE}]}},
    {"result": {"content": [{"type": "resource_link", "uri": "a:b", **VALUE}]}},
    {"error": {"code": -32000, "message": "no", "data": VALUE}},
    {"error": {"code": -32000, "message": json.dumps(VALUE), "data": json.dumps(VALUE)}},
    {"method": "notifications/message", "params": {"level": "info", "data": VALUE}},
    {"method": "notifications/message", "params": {"level": "info", "data": json.dumps(VALUE)}},
    {"method": "notifications/progress", "params": {"message": json.dumps(VALUE)}},
    {"method": "notifications/of-our-own", "params": VALUE},
])  # fmt: skip
def test_a_field_is_masked_wherever_a_message_has_values(said: dict[str, Any]) -> None:
    made = masked_message(json.dumps({"jsonrpc": "2.0", **said}), FIELD)
    assert b"Ana" not in made and b"***" in made
    wanted = json.dumps({"jsonrpc": "2.0", **said}).replace("Ana", "***").replace(" ", "")
    assert made.decode() == wanted, "and nothing else of it is another"


def test_what_mcp_itself_says_is_no_field() -> None:
    names = (
        "content",
        "isError",
        "text",
        "name",
        "uri",
        "type",
        "level",
        "message",
        "code",
        "data",
    )
    all_of_them = Redaction(tuple(("body", name) for name in names), ())
    for said in (
        {
            "result": {
                "content": [{"type": "resource_link", "uri": "a:b", "name": "c"}],
                "isError": 1,
            }
        },
        {"error": {"code": -32000, "message": "no", "data": ["x"]}},
        {"method": "notifications/message", "params": {"level": "info", "data": "x"}},
    ):
        made = masked_message(json.dumps(said), all_of_them)
        assert json.loads(made) == said


LINES = (
    f"first {CARD}\r\nsecond ana@acme.io\nthird ü\rfourth AKIAIOSFODNN7EXAMPLE\n"
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n"
    "-----END RSA PRIVATE KEY----- after\nlast DE89370400440532013000"
).encode()
LINES_MASKED = ("first ***\r\nsecond ***\nthird ü\rfourth ***\n***\n\n\n after\nlast ***").encode()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(one % (len(data) + 1) for one in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_lines_are_masked_wherever_a_piece_ends(cuts: list[int]) -> None:
    masker = LineMasker(ALL, is_json=False)
    made = b"".join(masker.feed(piece) for piece in cut(LINES, cuts)) + masker.end()
    assert made == LINES_MASKED


EVENTS = (
    ': note ana@acme.io\nid: 7\ndata: {"m": "ana\\u0040acme.io",\ndata:  "n": 1}\n\n'
    f"event: card\r\ndata: {CARD}\r\n\r\n"
    "data: -----BEGIN PRIVATE KEY-----\n\ndata: MIIEvQ\n\ndata: -----END PRIVATE KEY-----\n\n"
    "data: [DONE]\n\ndata: cut ana@acme.io"
).encode()
EVENTS_MASKED = (
    b': note ***\nid: 7\ndata: {"m":"***","n":1}\n\n'
    b"event: card\ndata: ***\n\ndata: ***\n\ndata: \n\ndata: \n\ndata: [DONE]\n\ndata: cut ***\n"
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_events_are_masked_wherever_a_piece_ends(cuts: list[int]) -> None:
    masker = EventMasker(ALL, is_mcp=False)
    made = b"".join(masker.feed(piece) for piece in cut(EVENTS, cuts)) + masker.end()
    assert made == EVENTS_MASKED


def test_events_of_mcp_are_messages_and_paths_want_fields() -> None:
    value = {"customer": {"name": "Ana"}}
    event = b"data: " + message(structuredContent=value) + b"\n\n"
    made = EventMasker(FIELD, is_mcp=True).feed(event)
    assert b"Ana" not in made
    assert b'"name":"***"' in made
    for data in (b"data: Ana\n\n", b"data: 7\n\n"):
        with pytest.raises(NotMaskable):
            EventMasker(FIELD, is_mcp=False).feed(data)
    assert EventMasker(FIELD, is_mcp=False).feed(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"


def test_lines_of_json_and_bounds() -> None:
    masker = LineMasker(FIELD, is_json=True)
    made = masker.feed(b'{"customer":{"name":"Ana"}}\n\n{"customer"') + masker.feed(b":{}}\n")
    assert made == b'{"customer":{"name":"***"}}\n\n{"customer":{}}\n'
    for masker in (LineMasker(MAIL, is_json=False), EventMasker(MAIL, is_mcp=False)):
        with pytest.raises(NotMaskable):
            masker.feed(b"a" * (HELD_BYTES_MAX + 1))
    with pytest.raises(NotMaskable):
        EventMasker(MAIL, is_mcp=False).feed(b"data: aaaa\n" * (HELD_BYTES_MAX // 10 + 1))
    with pytest.raises(NotMaskable):
        LineMasker(MAIL, is_json=False).feed(b"\xff\n")
