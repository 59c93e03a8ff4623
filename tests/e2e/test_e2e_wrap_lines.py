"""Lines that are no message, messages that try to pass for others: what `wrap` makes of them.

One scripted server per test; what reached it is compared with what should have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stdio_script import CARD
from wrapping import MASKING, SCRIPT, Wrap, call, text_of

PING = b'{"jsonrpc":"2.0","id":"p","method":"ping"}'

#: (case, line, JSON-RPC id of the refusal, code). None of them may reach the server.
HOSTILE: list[tuple[str, bytes, Any, str]] = [
    ("c1 a member twice", b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', None, "invalid_json"),
    ("c1 a case variant", b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"x"}', 1,
     "invalid_rpc"),
    ("c2 no number", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', 1,
     "invalid_json"),
    ("c2 too large", b'{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}', None,
     "invalid_json"),
    ("c3 bom", b"\xef\xbb\xbf" + PING, None, "invalid_json"),
    ("c3 latin-1", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\xe9"}}', 1,
     "invalid_json"),
    ("c3 nul", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\u0000"}}', 1,
     "invalid_json"),
    ("c3 surrogate", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud800"}}', 1,
     "invalid_json"),
    ("c3 utf-16", PING.decode().encode("utf-16-le"), None, "invalid_json"),
    ("c4 deep", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":%s%s}}'
     % (b"[" * 100, b"]" * 100), 1, "invalid_json"),
    ("c4 long", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"%s"}}' % (b"a" * 5000),
     1, "body_too_large"),
    ("c5 two documents", PING + PING, None, "invalid_json"),
    ("c5 empty", b"", None, "invalid_json"),
    ("c5 a comment", PING + b"// more", None, "invalid_json"),
    ("c5 a carriage return", b'{"jsonrpc":"2.0","id":1,\r"method":"ping"}', None, "invalid_json"),
    ("c6 batch", b"[" + PING + b"]", None, "batch_refused"),
    ("c6 empty batch", b"[]", None, "batch_refused"),
    ("c6 after a blank", b"  [" + PING + b"]", None, "batch_refused"),
    ("c7 null", b'{"jsonrpc":"2.0","id":null,"method":"ping"}', None, "invalid_rpc"),
    ("c7 float", b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None, "invalid_rpc"),
    ("c7 object", b'{"jsonrpc":"2.0","id":{},"method":"ping"}', None, "invalid_rpc"),
    ("c7 long", b'{"jsonrpc":"2.0","id":"%s","method":"ping"}' % (b"a" * 257), None, "invalid_rpc"),
    ("c8 other case", b'{"jsonrpc":"2.0","id":4,"method":"Tools/Call"}', 4, "invalid_rpc"),
    ("c8 padded", b'{"jsonrpc":"2.0","id":4,"method":" tools/call"}', 4, "invalid_rpc"),
    ("c8 an answer that asks", b'{"jsonrpc":"2.0","id":4,"method":"ping","result":{}}', 4,
     "invalid_rpc"),
    ("c8 no answer", b'{"jsonrpc":"2.0","id":4,"result":{},"error":{}}', None, "invalid_rpc"),
    ("c10 an invisible character", b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":'
     b'{"name":"echo\xe2\x80\x8b"}}', 5, "invalid_rpc"),
    ("c11 arguments as text", b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":'
     b'{"name":"echo","arguments":"{}"}}', 5, "invalid_rpc"),
    ("c11 another member", b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":'
     b'{"name":"echo","tool":"x"}}', 5, "invalid_rpc"),
]  # fmt: skip


@pytest.fixture
def wrap(tmp_path: Path) -> Iterator[Wrap]:
    wrapped = Wrap(tmp_path)
    try:
        yield wrapped
    finally:
        if wrapped.process.poll() is None:
            wrapped.kill()


def test_c1_to_c11_hostile_lines_are_refused_recorded_and_go_nowhere(tmp_path: Path) -> None:
    wrap = Wrap(tmp_path, "files", SCRIPT, "--set", "limits.request=4KiB")
    assert wrap.asked(0, "echo", a=1)["result"]
    for case, line, reply_id, code in HOSTILE:
        wrap.say(line + b"\n")
        heard = wrap.hear()
        assert heard["jsonrpc"] == "2.0", case
        assert heard["id"] == reply_id, (case, heard)
        assert heard["error"]["data"]["code"] == code, (case, heard)
    assert wrap.asked(99, "echo", a=2)["result"]
    assert wrap.end() == 0
    assert [one["id"] for one in wrap.seen()] == [0, 99]
    refusals = [one for one in wrap.receipts() if one["kind"] == "refusal"]
    assert len(refusals) == len(HOSTILE)
    assert {one["upstream"] for one in refusals} == {"files"}


def test_c4_a_refused_request_has_its_answer_wherever_its_id_stands(tmp_path: Path) -> None:
    """The official clients write it first or last; without it the agent would wait for ever."""
    wrap = Wrap(tmp_path, "files", SCRIPT, "--set", "limits.request=4KiB")
    wrap.call(1, "keep")
    params = b'"params":{"name":"echo","arguments":{"a":"%b"}}'
    for sent, reply_id, end in ((7, 7, b"x" * 9000), (8, 8, b"\\u0000"), (1, None, b"x" * 4100)):
        for form in (
            b'{"jsonrpc":"2.0","id":%d,"method":"tools/call",%b}\n',
            b'{"method":"tools/call",%b,"jsonrpc":"2.0","id":%d}\r\n',
        ):
            parts = (sent, params % end)
            wrap.say(form % (parts if form.startswith(b'{"json') else parts[::-1]))
            heard = wrap.hear()
            assert heard["id"] == reply_id, "1 is the id of another one"
            assert heard["error"]["data"]["code"] in ("body_too_large", "invalid_json")
    wrap.say(b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"x"}\n')
    assert wrap.hear()["id"] is None, "read, but refused"
    wrap.say(b'{"jsonrpc":"2.0","id":9,"result":{"text":"%b"}}\n' % (b"x" * 9000))
    assert wrap.hear()["id"] is None, "an answer is no request"
    wrap.call(2, "release")
    assert [wrap.hear()["id"] for _ in range(2)] == [1, 2]
    assert wrap.end() == 0
    assert [one["params"]["name"] for one in wrap.seen()] == ["keep", "release"]


def test_c7_a_call_without_an_id_and_an_id_in_flight_are_refused(wrap: Wrap) -> None:
    wrap.say({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "echo"}})
    wrap.call(1, "keep")
    wrap.call(1, "echo")
    refused = wrap.hear()
    assert refused["id"] is None, "under its id the client would take it for the first answer"
    assert "not answered yet" in refused["error"]["message"]
    wrap.call("1", "keep")  # another id: a text
    wrap.call(2, "release")
    heard = [wrap.hear() for _ in range(3)]
    assert [(one["id"], text_of(one)) for one in heard] == [(1, "late"), ("1", "late"), (2, "done")]
    assert wrap.asked(1, "echo")["result"], "answered, so the id is free again"
    assert wrap.end() == 0
    names = [one["params"]["name"] for one in wrap.seen()]
    assert names == ["keep", "keep", "release", "echo"]
    kinds = [one["kind"] for one in wrap.receipts()]
    assert (kinds.count("refusal"), kinds.count("intent")) == (2, 4)


def test_c7_the_id_of_a_call_taken_back_is_not_free_until_it_is_answered(wrap: Wrap) -> None:
    """A late answer to the first would be taken for the answer to the second."""
    wrap.call(1, "keep")
    gone = {"requestId": 1, "reason": "changed my mind"}
    wrap.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": gone})
    assert wrap.asked(9, "echo")["result"]
    wrap.call(1, "echo")
    assert wrap.hear()["error"]["data"]["code"] == "invalid_rpc"
    assert wrap.asked(2, "release")["result"], "the late answer went nowhere"
    assert wrap.asked(1, "echo")["result"]
    assert wrap.end() == 0
    receipts = wrap.receipts()
    calls = {one["call_id"] for one in receipts if one["kind"] == "intent"}
    ends = [one["outcome"] for one in receipts if one["kind"] == "outcome"]
    assert len(calls) == len(ends)
    assert ends.count("aborted_by_client") == 1


def test_b21_a_second_answer_and_what_is_no_message_reach_nobody(wrap: Wrap) -> None:
    assert text_of(wrap.asked(1, "twice")) == "first"
    assert text_of(wrap.asked(2, "litter")) == "done"
    wrap.call(3, "big_number")  # what a client can read, it gets, byte for byte
    assert wrap.hear()["result"] == {"n": 12345678901234567890, "s": "\ud83d"}
    assert wrap.end() == 0
    assert "on standard error\n" in wrap.errors()
    assert wrap.errors().count("kept from the agent") == 7


def test_answers_that_the_official_clients_take_reach_them(tmp_path: Path) -> None:
    """An id as text, and null for what is not there: the agent would wait for ever."""
    wrap = Wrap(tmp_path)
    wrap.call(1, "in_text")
    heard = wrap.hear()
    assert (heard["id"], text_of(heard)) == ("1", f"the card is {CARD}"), "byte for byte"
    assert text_of(wrap.asked(2, "null_error")) == "done"
    assert wrap.asked(3, "null_result")["error"]["message"] == "no"
    assert wrap.asked(1, "echo")["result"], "answered, so the id is free again"
    wrap.call(4, "keep")
    wrap.call("4", "in_text")  # of two that may be meant, the one that has it exactly
    assert text_of(wrap.hear()) == f"the card is {CARD}"
    wrap.call(5, "release")
    assert [wrap.hear()["id"] for _ in range(2)] == [4, 5]
    assert wrap.end() == 0
    assert "kept from the agent" not in wrap.errors()


def test_c7_an_answer_in_text_to_a_call_taken_back_reaches_nobody(wrap: Wrap) -> None:
    wrap.call(1, "keep")
    gone = {"requestId": 1}
    wrap.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": gone})
    wrap.call(2, "release_in_text")
    assert wrap.hear()["id"] == 2, "the late answer went nowhere"
    assert wrap.asked(1, "echo")["result"], "answered, so the id is free again"
    assert wrap.end() == 0


def test_the_order_of_messages_is_kept_both_ways(wrap: Wrap) -> None:
    wrap.call(1, "order")
    heard = [wrap.hear() for _ in range(12)]
    said = [one.get("params", {}).get("data") or one.get("id") for one in heard]
    before, after = [f"before {n}" for n in range(5)], [f"after {n}" for n in range(5)]
    assert said == [*before, "s-1", 1, *after]
    burst = [call(number, "echo", n=number) for number in range(10, 40)]
    burst.insert(10, {"jsonrpc": "2.0", "id": "s-1", "result": {"roots": []}})
    burst.insert(20, {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})
    for message in burst:
        wrap.say(message)
    answers = [wrap.hear()["id"] for _ in range(30)]
    assert answers == list(range(10, 40))
    assert wrap.end() == 0
    assert wrap.seen() == [call(1, "order"), *burst]
    tools = [one["tool"] for one in wrap.receipts() if one["kind"] == "intent"]
    assert tools.count("files/mcp:response") == 1


def test_c8_only_what_the_server_has_asked_is_answered_and_once(wrap: Wrap) -> None:
    """What nobody has asked is no answer: it would carry out whatever the agent likes."""
    roots: dict[str, Any] = {"jsonrpc": "2.0", "id": "s-1", "result": {"roots": []}}
    made_up = [
        {**roots, "result": {"data": "stolen"}},
        {"jsonrpc": "2.0", "id": "s-2", "error": {"code": 1, "message": "stolen"}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "stolen"}},
        {"jsonrpc": "2.0", "id": 7, "result": {}},
    ]
    for message in made_up:
        wrap.say(message)
    wrap.call(1, "order")
    heard = [wrap.hear() for _ in range(12)]
    assert "s-1" in [one.get("id") for one in heard], "now it has"
    wrap.say(roots)
    wrap.say({**roots, "result": {"data": "stolen"}})
    assert wrap.asked(2, "echo")["result"]
    assert wrap.end() == 0
    assert [one for one in wrap.seen() if "method" not in one] == [roots]
    refused = [one["outcome"] for one in wrap.receipts() if one["kind"] == "refusal"]
    assert refused == ["unasked_answer"] * (len(made_up) + 1)


def test_c16_what_is_said_beside_an_answer_is_masked_like_it(tmp_path: Path) -> None:
    policies = tmp_path / "share/aegis-sidecar/files/policies"
    policies.mkdir(parents=True)
    (policies / "start.yaml").write_text(MASKING)
    wrap = Wrap(tmp_path)
    wrap.call(1, "secret")
    found, asks, answer, after = (wrap.hear() for _ in range(4))
    assert found["params"]["data"] == "found ***"
    assert asks["id"] == "s-2"
    assert text_of(answer) == "the card is ***"
    assert after["params"]["data"] == f"done with {CARD}", "no call is in flight any more"
    assert wrap.end() == 0
    (told,) = [one for one in wrap.seen() if "error" in one]
    assert told["id"] == "s-3", "what cannot be masked is kept back, and who asked is told"
    assert told["error"]["data"]["code"] == "cannot_redact"
    assert CARD not in str(wrap.receipts())


ASKING = """\
policy: start
rules:
  - {id: everything, effect: allow, tools: [files/unknown, "files/mcp:roots/list"]}
"""


def test_c16_what_a_server_asks_is_judged_and_refused_to_its_face(tmp_path: Path) -> None:
    """As over HTTP: refused unless a rule names it, on record either way; answers that ask too."""
    policies = tmp_path / "share/aegis-sidecar/files/policies"
    policies.mkdir(parents=True)
    (policies / "start.yaml").write_text(ASKING)
    wrap = Wrap(tmp_path)
    wrap.call(1, "asks")
    roots, note, answer = (wrap.hear() for _ in range(3))
    assert (roots["method"], roots["id"]) == ("roots/list", "s-1")
    assert note["params"]["data"] == "asked for much"
    assert text_of(answer) == "done", "nothing else of the server was passed on"
    needed = wrap.asked(2, "requires", method="roots/list")
    assert needed["result"]["inputRequests"] == {"a": {"method": "roots/list"}}
    refused = wrap.asked(3, "requires", method="elicitation/create")
    assert "input_refused" in text_of(refused)
    assert wrap.end() == 0
    told = {one["id"]: one["error"]["data"]["code"] for one in wrap.seen() if "error" in one}
    assert told == {"s-2": "default_deny", "s-3": "answer_unchecked", "s-5": "default_deny"}
    receipts = wrap.receipts()
    asked = [
        (one["kind"], one["tool"]) for one in receipts if one["tool"] and "mcp:" in one["tool"]
    ]
    assert asked == [
        ("intent", "files/mcp:roots/list"),
        ("refusal", "files/mcp:sampling/createMessage"),
        ("refusal", "files/mcp:elicitation/create"),
        ("refusal", "files/mcp:sampling/createMessage"),
        ("intent", "files/mcp:roots/list"),
        ("refusal", "files/mcp:elicitation/create"),
    ]
    outcomes = [one["outcome"] for one in receipts if one["kind"] == "outcome"]
    assert outcomes == ["completed"] * 4 + ["withheld"]


LIMITED = """\
policy: start
rules:
  - {id: everything, effect: allow, tools: [files/unknown, "files/mcp:*"]}
  - id: short
    tools: files/unknown
    obligations: {max_response: 100KiB}
"""


def test_limits_of_a_call_answer_under_its_id(tmp_path: Path) -> None:
    """In flight, in silence, in size; and a line of the server that nobody can attribute."""
    policies = tmp_path / "share/aegis-sidecar/files/policies"
    policies.mkdir(parents=True)
    (policies / "start.yaml").write_text(LIMITED)
    settings = {"limits.calls": "1", "timeouts.idle": "2500ms"}
    options = [f"--set=upstreams.files.{name}={value}" for name, value in settings.items()]
    wrap = Wrap(tmp_path, "files", SCRIPT, *options)
    large = wrap.asked(1, "echo", text="a" * 110_000)
    assert "response_too_large" in text_of(large)
    wrap.call(2, "keep")
    busy = wrap.asked(3, "echo")
    assert busy["error"]["data"]["code"] == "upstream_busy"
    silent = wrap.hear()
    assert silent["id"] == 2 and "(upstream_timeout)" in text_of(silent)
    wrap.call(4, "long")
    long = wrap.hear()
    assert long["id"] == 4 and "(upstream_broken)" in text_of(long)
    assert text_of(wrap.asked(5, "release")) == "done"
    assert wrap.end() == 0
    outcomes = [one["outcome"] for one in wrap.receipts() if one["kind"] == "outcome"]
    assert outcomes == ["withheld", "upstream_error", "upstream_error", "completed"]


def test_b15_lines_that_wait_for_the_server_have_one_bound(tmp_path: Path) -> None:
    """Half of it is the one server's: a second of 600 kB is refused while the first waits."""
    policies = tmp_path / "share/aegis-sidecar/files/policies"
    policies.mkdir(parents=True)
    (policies / "start.yaml").write_text(LIMITED.partition("  - id: short")[0])
    wrap = Wrap(tmp_path, "files", SCRIPT, "--set=limits.bodies=2MiB")
    wrap.call(1, "keep", text="x" * 600_000)
    full = wrap.asked(2, "echo", text="y" * 600_000)
    assert full["error"]["data"]["code"] == "bodies_full"
    assert text_of(wrap.asked(3, "echo", text="small")) == '{"text": "small"}'
    wrap.call(4, "release")
    assert {wrap.hear()["id"] for _ in range(2)} == {1, 4}
    again = wrap.asked(5, "echo", text="z" * 600_000)
    assert "zzz" in text_of(again), "it was given back"
    assert wrap.end() == 0
