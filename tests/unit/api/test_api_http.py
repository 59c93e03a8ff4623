"""Requests in forms that are not those asked for: each is answered in one shape, and by name."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from api_setup import Served, key_of

from sidecar.control.api import decisions, mount
from sidecar.write_path import LOOK_UP_S
from storage.errors import ReadTimeout, StoreCorrupt

PROBLEM = {"code", "title", "status", "detail", "next_step"}


def assert_problem(said: tuple[int, Any, Any], status: int, code: str) -> Any:
    assert (said[0], said[1]["code"]) == (status, code), said[1]
    assert said[1]["status"] == status
    assert PROBLEM <= said[1].keys() <= PROBLEM | {"parameter"}
    assert said[2]["Content-Type"] == "application/problem+json"
    assert said[2]["Cache-Control"] == "no-store"
    return said[1]


UNKNOWN = (
    ("/v1/decisions?agnt_id=x", "agnt_id"), ("/v1/decisions?tenant=rival", "tenant"),
    ("/v1/decisions?tenant_id=rival", "tenant_id"), ("/v1/stats?limit=5", "limit"),
    ("/v1/receipts/1?x=y", "x"), ("/v1/openapi.json?a", "a"), ("/v1/decisions?=", ""),
    ("/v1/decisions?limit=5&%6Cimits=5", "limits"), ("/v1/keys?offset=1", "offset"),
)  # fmt: skip
#: The last one: a plus sign that was not escaped is a blank, and so no time.
INVALID = (
    ("limit=0", "limit"), ("limit=201", "limit"), ("limit=", "limit"), ("limit=1e1", "limit"),
    ("limit=-1", "limit"), ("limit=%D9%A1", "limit"), ("limit=01", "limit"),
    ("limit=5&limit=5", "limit"), ("limit=" + "9" * 4000, "limit"), ("offset=1001", "offset"),
    ("decision=Allow", "decision"), ("decision=", "decision"), ("agent_id=", "agent_id"),
    ("agent_id=a%00b", "agent_id"), ("agent_id=a%0Ab", "agent_id"), ("agent_id=a%0A", "agent_id"),
    ("agent_id=" + "a" * 257, "agent_id"), ("from=yesterday", "from"), ("from=2026-11-23", "from"),
    ("from=2026-11-23T24:00:00Z", "from"),
    ("from=2026-11-23T10:00:00", "from"), ("from=2026-13-23T10:00:00Z", "from"),
    ("to=2026-11-23T10:00:00+25:00", "to"), ("to=1795931832", "to"), ("cursor=", "cursor"),
    ("from=2026-11-23T10:00:00+01:00", "from"),
)  # fmt: skip
VALID = (
    "from=2026-11-23T10:00:00%2B01:00", "from=2026-11-23t10:00:00z", "to=9999-12-31T23:59:59Z",
    "from=0001-01-01T00:00:00Z", "from=2026-11-23T10:00:00.123456789Z", "agent_id=%C3%A9",
    "agent_id=a+b", "limit=200", "offset=1000",
)  # fmt: skip


async def test_w16_a_parameter_that_is_not_asked_for_or_no_value_is_named(served: Served) -> None:
    for path, parameter in UNKNOWN:
        said = assert_problem(await served.ask(path), 400, "unknown_parameter")
        assert said["parameter"] == parameter
    for query, parameter in INVALID:
        said = assert_problem(await served.ask(f"/v1/decisions?{query}"), 400, "invalid_parameter")
        assert said["parameter"] == parameter, query
    for query in VALID:
        assert (await served.ask(f"/v1/decisions?{query}"))[0] == 200, query


async def test_a_query_that_is_no_utf8_or_has_very_many_parameters(served: Served) -> None:
    assert_problem(await served.ask("/v1/decisions?agent_id=%FF"), 400, "malformed_request")
    many = "&".join(f"p{number}=1" for number in range(65))
    assert_problem(await served.ask(f"/v1/decisions?{many}"), 400, "malformed_request")


async def test_no_such_route_and_no_such_method(served: Served) -> None:
    for path in ("/v1/", "/v1/nothing", "/v1/decisions/", "/v1/decisions/a/b", "/v1/%2e%2e/x",
                 "/v1/receipts/abc", "/v1/receipts/-1", "/v1/receipts/%D9%A1"):  # fmt: skip
        said = await served.ask(path)
        assert_problem(said, 404, "not_found")
        assert "/v1/openapi.json" in said[1]["next_step"], path
    for method in ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND"):
        status, _, headers = await served.ask("/v1/decisions", method=method)
        assert (status, headers["Allow"]) == (405, "GET"), method
    assert (await served.ask("/v1/receipts/verify-chain"))[2]["Allow"] == "POST"
    assert (await served.ask("/v1/receipts/0"))[0] == 400
    said = await served.ask("/v1/agents/x/freeze")
    assert_problem(said, 405, "method_not_allowed")
    assert said[2]["Allow"] == "POST"
    assert (await served.ask("/v1/keys", method="DELETE"))[2]["Allow"] == "GET, POST"
    assert (await served.ask("/v1/agents/register"))[2]["Allow"] == "POST"


BODIES = (
    (b'{"reason":"x"}', "text/plain", 415, "unsupported_media_type"),
    (b'{"reason":"x"}', "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b'{"reason":"x"}', "application/json; charset=utf-16", 415, "unsupported_media_type"),
    (b'{"reason":"x"}', "application/json; charset=utf-8-sig", 415, "unsupported_media_type"),
    (b"{", "application/json", 400, "invalid_body"),
    (b"[]", "application/json", 400, "invalid_body"),
    (b"\xff", "application/json", 400, "invalid_body"),
    (b'{"reason":"\xff"}', "application/json", 400, "invalid_body"),
    (b'{"reason":"a","reason":"b"}', "application/json", 400, "invalid_body"),
    (b'{"reason":"a\\u0000"}', "application/json", 400, "invalid_body"),
    (b'{"reason":"\\ud800"}', "application/json", 400, "invalid_body"),
    (b'{"reason":1}', "application/json", 400, "invalid_body"),
    (b'{"reason":NaN}', "application/json", 400, "invalid_body"),
    (b'{"reason":"a","more":1}', "application/json", 400, "invalid_body"),
    (b'{"reason":"' + b"x" * 1025 + b'"}', "application/json", 400, "invalid_body"),
    (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, "application/json", 413, "body_too_large"),
    *(
        (b'{"a":' * depth + b"1" + b"}" * depth, "application/json", 400, "invalid_body")
        for depth in (120, 200, 800, 850, 900, 920, 940, 950, 960, 970, 980, 990, 1000, 3000, 9000)
    ),
    (b"", "application/json", 200, ""),
    (b'{"reason":"x"}', "application/json; charset=utf-8", 200, ""),
    (b'{"reason":"x"}', "application/json;charset=UTF-8", 200, ""),
    (b'{"reason":"x"}', 'application/json; charset="Utf8"', 200, ""),
)  # fmt: skip


async def test_bodies_that_are_not_what_is_asked_for(served: Served) -> None:
    for raw, content_type, status, code in BODIES:
        before = await served.seq()
        said = await served.ask(
            "/v1/agents/coder-acme/rotate-token", method="POST", raw=raw, Content_Type=content_type
        )
        assert said[0] == status, (raw[:40], said[1])
        assert (await served.seq() > before) == (status == 200)
        if code:
            assert_problem(said, status, code)


async def test_a_number_beyond_what_can_be_held_is_no_argument_of_a_call(served: Served) -> None:
    for number, status in ((b"1e400", 400), (b"-1e999", 400), (b"1e300", 200)):
        raw = b'{"call":{"call":"shop/get","args":{"id":' + number + b"}}}"
        said = await served.ask("/v1/policies/explain", method="POST", raw=raw)
        assert said[0] == status, said
        if status == 400:
            assert_problem(said, 400, "invalid_body")


async def test_a_body_where_none_is_asked_for(served: Served) -> None:
    said = await served.ask("/v1/decisions", raw=b"{}")
    assert_problem(said, 400, "malformed_request")


async def test_a_compressed_body_is_not_taken(served: Served) -> None:
    said = await served.ask(
        "/v1/agents/coder-acme/freeze", method="POST", raw=b"{}", Content_Encoding="gzip"
    )
    assert_problem(said, 415, "unsupported_media_type")
    assert await served.seq() == 12


async def test_g8_foreign_hosts_and_origins_are_refused(served: Served) -> None:
    for origin in ("null", "https://evil.example", "http://127.0.0.1.evil.example"):
        said = await served.ask(
            "/v1/agents/coder-acme/freeze", method="POST", raw=b"{}", Origin=origin
        )
        assert (said[0], said[1]["code"]) == (403, "origin_not_allowed")
    said = await served.ask("/v1/decisions", Host="rebound.example")
    assert (said[0], said[1]["code"]) == (421, "misdirected_request")
    assert said[1].keys() == PROBLEM
    assert await served.seq() == 12
    assert (await served.ask("/v1/decisions", Origin="http://localhost:8081"))[0] == 200


async def test_a_key_counts_in_its_header_alone(served: Served) -> None:
    key = key_of("acme", "admin")
    for path, headers in (
        (f"/v1/decisions?key={key}", {}),
        ("/v1/decisions", {"Cookie": f"key={key}"}),
        ("/v1/decisions", {"Aegis-Token": key}),
        ("/v1/decisions", {"X-Api-Key": key}),
    ):
        said = await served.ask(path, None, **headers)  # type: ignore[arg-type]
        assert_problem(said, 401, "unauthenticated")
        assert said[2]["WWW-Authenticate"] == "Bearer"


class Given:
    """In the place of the readers: everybody has this one."""

    def __init__(self, reader: object) -> None:
        self._reader = reader

    def of(self, _: object) -> object:
        return self._reader


class Failing:
    """A reader that fails, or never answers."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def receipts_of_call(self, *_: object) -> list[Any]:
        if self._error is not None:
            raise self._error
        await asyncio.sleep(60)
        return []


@pytest.mark.parametrize(("error", "code"), [
    (ReadTimeout("interrupted: SELECT secret"), "read_timeout"),
    (StoreCorrupt("/var/lib/secret.db is torn"), "store_unavailable"),
    (ZeroDivisionError("secret"), "internal_error"),
    (None, "read_timeout"),
])  # fmt: skip
async def test_i5_what_fails_below_tells_nothing_of_it(
    served: Served, error: Exception | None, code: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    serving = served.api._serving
    route = next(one for one in served.api.routes if one.name == "get_decision")
    assert serving is not None
    monkeypatch.setattr(served.api._rooms, "reading", Given(Failing(error)))
    if error is None:
        object.__setattr__(route, "time_limit_s", 0.1)
    try:
        with caplog.at_level(logging.ERROR):
            said = await served.ask("/v1/decisions/x")
    finally:
        object.__setattr__(route, "time_limit_s", decisions.READ_S)
    body = assert_problem(said, 503, code)
    assert "secret" not in str(body) and said[2]["Retry-After"] == "1"
    assert ("Traceback" in caplog.text) == (code == "internal_error"), "the log tells the operator"


#: A statement that would not end, for each engine; it takes the parameters of the one it replaces.
ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT count(*) FROM n WHERE ?1 <> ?2",
    "postgres": "SELECT pg_sleep(60) WHERE $1::text <> $2::text",
}


async def test_a7_a_slow_read_is_cut_off_and_no_decision_waits_for_it(
    served_by_each: Served,
) -> None:
    served, loop = served_by_each, asyncio.get_running_loop()
    engine = "postgres" if served.store.has_leases else "sqlite"
    served.reader._sql = {**served.reader._sql, "receipts_of_call": ENDLESS[engine]}
    began = loop.time()
    slow = [asyncio.create_task(served.ask(f"/v1/decisions/{one}")) for one in range(2)]
    await asyncio.sleep(0.2)
    for number in range(20):
        started = loop.time()
        if number >= 3 and started - began > LOOK_UP_S / 2:  # a slow disk
            break
        await served.recorder.call("acme", f"meanwhile-{number}")
        await served.store.run_head("acme", "coder-acme")
        assert loop.time() - started < 1.0, "both readers of the API are busy, and nobody waits"
    assert not any(one.done() for one in slow), "positive control: they are still being read"
    for one in slow:
        assert_problem(await one, 503, "read_timeout")
    assert LOOK_UP_S <= loop.time() - began < LOOK_UP_S + 2.0
    assert (await served.ask("/v1/decisions"))[0] == 200, "and its readers are there again"


async def test_a_body_that_does_not_come_is_waited_for_so_long(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount, "BODY_WAIT_S", 0.2)
    port = int(served.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/agents/coder-acme/freeze HTTP/1.1\r\nHost: localhost\r\n"
        b"Authorization: Bearer acme-admin-key\r\nContent-Type: application/json\r\n"
        b'Content-Length: 50\r\n\r\n{"rea'
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert answer.startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert await served.seq() == 12


async def test_an_export_nobody_takes_is_given_up(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount, "PIECE_WAIT_S", 0.2)

    async def endless(*_: object) -> Any:
        while True:
            yield b"x" * 1_000_000

    monkeypatch.setattr("sidecar.control.api.verifying._exported", endless)
    port = int(served.url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET /v1/receipts/export HTTP/1.1\r\nHost: localhost\r\n"
        b"Authorization: Bearer acme-admin-key\r\n\r\n"
    )
    while not served.api._streams:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        while served.api._streams:
            await asyncio.sleep(0.05)
    writer.close()


async def test_no_more_requests_than_so_many_at_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount, "REQUESTS_MAX", 2)
    gate = asyncio.Event()

    class Gated:
        async def receipts_of_call(self, *_: object) -> list[Any]:
            await gate.wait()
            return []

    real = served.api._rooms.reading
    monkeypatch.setattr(served.api._rooms, "reading", Given(Gated()))
    keys = [key_of(tenant, "admin") for tenant in ("acme", "rival")]
    waiting = [asyncio.create_task(served.ask("/v1/decisions/x", key)) for key in keys]
    while served.api._open < 2:
        await asyncio.sleep(0.01)
    assert_problem(await served.ask("/v1/decisions/x"), 503, "too_busy")
    gate.set()
    assert [said[0] for said in await asyncio.gather(*waiting)] == [404, 404]
    monkeypatch.setattr(served.api._rooms, "reading", real)
    assert (await served.ask("/v1/decisions"))[0] == 200
