"""Lines of the agent and of the server, before anything is decided: how they are cut and read."""

from __future__ import annotations

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import Refused
from sidecar.proxy.dialects.reply import problem_reply
from sidecar.proxy.stdio.child import Child, child_environment, started
from sidecar.proxy.stdio.exchange import _addressed
from sidecar.proxy.stdio.lines import LineCutter
from sidecar.proxy.stdio.message import (
    asked_in,
    head_of,
    id_key,
    number_key,
    read_line,
    read_said,
)

MOST = 8


def _expected(data: bytes) -> list[bytes | None]:
    lines = [line.removesuffix(b"\r") for line in data.split(b"\n")[:-1]]
    return [line if len(line) <= MOST else None for line in lines]


@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"\r\n", b"abcdefgh", b"\r"])))
def test_lines_are_the_same_wherever_a_pipe_cuts_them(pieces: list[bytes]) -> None:
    cutter = LineCutter(MOST)
    lines = [line for piece in pieces for line in cutter.feed(piece)]
    whole = b"".join(pieces)
    assert lines == _expected(whole)
    assert cutter.end() is bool(whole.rpartition(b"\n")[2])
    assert cutter.feed(b"next\n") == [b"next"]


def test_c4_a_line_without_end_is_not_kept() -> None:
    cutter = LineCutter(MOST)
    for _ in range(1000):
        assert cutter.feed(b"a" * 1000) == []
    assert sum(map(len, cutter._pieces)) <= MOST + 1
    assert cutter.feed(b"\nshort\n") == [None, b"short"]


def test_c4_of_a_line_that_is_skipped_begin_and_end_are_known() -> None:
    line = b"begin" + bytes(range(65, 91)) * 100 + b"end"
    for size in (1, 7, 300, 5000):
        cutter = LineCutter(MOST, keeps_ends=True)
        for at in range(0, len(line), size):
            assert cutter.feed(line[at : at + size]) == []
        assert cutter.feed(b"\r\nshort\n" + b"a" * (MOST + 1) + b"\n") == [None, b"short", None]
        begin, end = cutter.skipped.popleft()
        assert line.startswith(begin) and begin and line.endswith(end.removesuffix(b"\r"))
        assert size == 1 or len(end) > 200
        assert cutter.skipped.popleft() == (b"a" * (MOST + 1),) * 2
        assert not cutter.skipped
    cutter = LineCutter(MOST)
    assert cutter.feed(line + b"\n") == [None]
    assert not cutter.skipped, "where nobody takes them out"


@pytest.mark.parametrize(("line", "asks"), [
    ('{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', 1),
    (' { "id" : "a b" , "method" : "ping" , "params" : [', "a b"),
    ('{"method":"tools/call","params":{"a":[1]},"jsonrpc":"2.0","id":-5} ', -5),
    ('{"method":"x","params":{"t":"},\\"id\\":9}"},"id":3}', 3),
    ('{"id":0,"method":"x"}', 0), ('{"id":"","method":"x"}', ""),
    ('{"id":1,"method":"x","params":{},"id":2}', None),  # which of the two
    ('{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', None),
    ('{"jsonrpc":"2.0","id":1,"result":{"a":1}}', None),  # no request
    ('{"result":{"method":"x"},"jsonrpc":"2.0","id":5}', None),
    ('{"method":"x","params":{"a":{},"id":7}}', None),  # an argument
    ('{"id":1,"method":"x"}// more', None), ('{"id":1,"method":"x"}{"id":2}', None),
    ('[{"id":1,"method":"x"}]', None), ("", None), ("{", None),
    ('{"id":1.5,"method":"x"}', None), ('{"id":null,"method":"x"}', None),
    ('{"id":9007199254740993,"method":"x"}', None), ('{"id":true,"method":"x"}', None),
    ('{"id":"\\u0000","method":"x"}', None), ('{"id":"%s","method":"x"}' % ("a" * 257), None),
    ('{"\\u0069d":1,"method":"x"}', None),
])  # fmt: skip
def test_c4_the_id_of_what_cannot_be_read_is_known_where_it_is_plain(
    line: str, asks: object
) -> None:
    assert asked_in(line.encode(), line.encode()) == asks


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_c4_no_bytes_break_the_look_for_an_id(begin: bytes, end: bytes) -> None:
    asks = asked_in(b'{"method":"x",' + begin, end + b',"id":1}')
    assert asks is None or isinstance(asks, int | str)


def test_c7_ids_that_python_takes_for_one_are_several() -> None:
    keys = [id_key(value) for value in (1, 1.0, True, "1")]
    assert len(set(keys)) == 4
    assert [id_key(value) for value in (None, [], {})] == [None, None, None]


@pytest.mark.parametrize(("text", "number"), [
    ("1", 1), ("0", 0), ("-7", -7), ("01", None), ("-0", None), ("1.0", None), (" 1", None),
    ("", None), ("\u0661", None), ("1\n", None), ("9" * 17, None),
])  # fmt: skip
def test_a_number_that_a_server_writes_as_text_is_that_number(
    text: str, number: int | None
) -> None:
    assert number_key(("str", text)) == id_key(number)
    assert number_key(("int", 1)) is None


@pytest.mark.parametrize("line", [
    b"", b"text", b"[]", b"1", b"null", b'{"id":1,"result":{}}', b'{"jsonrpc":"1.0","id":1}',
    b'{"jsonrpc":"2.0","id":1}', b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
    b'{"jsonrpc":"2.0","id":1,"result":null,"error":null}',
    b'{"jsonrpc":"2.0","id":null,"error":{}}', b'{"jsonrpc":"2.0","id":[1],"result":{}}',
    b'{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}', b'{"jsonrpc":"2.0","method":1}',
    b'{"jsonrpc":"2.0","method":"ping"}\r{"jsonrpc":"2.0","method":"ping"}', b"[" * 100_000,
])  # fmt: skip
def test_b21_what_no_client_could_take_for_one_message_is_none(line: bytes) -> None:
    assert read_said(line) is None


@pytest.mark.parametrize(("line", "answers", "asks"), [
    (b'{"jsonrpc":"2.0","id":1,"result":{}}', ("int", 1), None),
    (b'{"jsonrpc":"2.0","id":"1","error":{"code":1,"message":""}}', ("str", "1"), None),
    (b'{"jsonrpc":"2.0","id":1,"result":{"n":NaN,"s":"\\ud83d","i":123456789012345678901}}',
     ("int", 1), None),
    (b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}', ("int", 1), None),
    (b'{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":""}}', ("int", 1), None),
    (b'{"jsonrpc":"2.0","id":"s","method":"roots/list"}', None, "s"),
    (b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}', None, None),
])  # fmt: skip
def test_what_clients_read_is_a_message(line: bytes, answers: object, asks: object) -> None:
    said = read_said(line)
    assert said is not None
    assert (said.line, said.answers, said.asks) == (line, answers, asks)


def test_the_head_is_what_an_http_client_would_say() -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    params = {"_meta": meta, "name": "größe"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    head = head_of(read_line(json.dumps(message).encode(), 64, 50_000), "files")
    assert head.upstream == "files"
    assert head.first == {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": "=?base64?Z3LDtsOfZQ==?=",
    }
    del params["_meta"]
    head = head_of(read_line(json.dumps(message).encode(), 64, 50_000), "files")
    assert head.first == {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
    }


def test_a_refusal_from_before_a_message_was_read_gets_its_id_and_form() -> None:
    _, _, body = problem_reply(Refused("upstream_busy", retry_after_s=1), "c" * 32)
    said = json.loads(_addressed(body, "a-1"))
    assert (said["jsonrpc"], said["id"], said["error"]["code"]) == ("2.0", "a-1", 503)
    assert said["error"]["data"]["code"] == "upstream_busy"
    own = b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":""}}'
    assert json.loads(_addressed(own, 8))["id"] == 7
    assert json.loads(_addressed(own.replace(b"7", b"null"), 8))["id"] == 8


def test_the_servers_environment_is_ours_without_what_is_the_sidecars() -> None:
    given_ = {"PATH": "/bin", "AEGIS_STORE": "secret", "aegis_lower": "x", "TOKEN": "t"}
    assert child_environment(given_) == {"PATH": "/bin", "aegis_lower": "x", "TOKEN": "t"}


async def test_a_server_that_cannot_be_killed_does_not_keep_us(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one that runs as another user by now."""
    process = started(["sleep", "60"], {"PATH": "/usr/bin:/bin"})
    child = Child(process)
    await child.open()
    with monkeypatch.context() as patch:
        patch.setattr(child, "signal", lambda _: None)
        patch.setattr("sidecar.proxy.stdio.child.KILLED_S", 0.1)
        await child.end(0.1)
    assert child.status is None
    assert "cannot be ended" in caplog.text
    child.signal(signal.SIGKILL)
    assert await child.ended_within(10)
    assert child.status == 128 + signal.SIGKILL
