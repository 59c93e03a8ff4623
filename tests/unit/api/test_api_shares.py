"""A key that may only look makes requests last: others are answered all the same."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from api_setup import Served, key_of

from sidecar.control.api import mount
from sidecar.control.api.problems import ApiProblem
from sidecar.control.api.shares import Shares
from sidecar.model import Person

VIEWER = key_of("acme", "viewer")
#: A check of policies, which whoever may look may ask for, and whose body does not come.
SLOW = (
    f"POST /v1/policies/check HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {VIEWER}\r\n"
    'Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"rea'
).encode()


@contextlib.asynccontextmanager
async def lasting(served: Served, request: bytes, count: int) -> AsyncIterator[None]:
    """So many requests that do not end, each over a connection of its own."""
    port, writers = int(served.url.rpartition(":")[2]), []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        writers.append(writer)
    try:
        yield
    finally:
        for writer in writers:
            writer.close()


async def test_e8_who_may_only_look_cannot_keep_others_from_deciding(served: Served) -> None:
    most = mount.REQUESTS_MAX
    async with lasting(served, SLOW, most + 8):
        async with asyncio.timeout(5):
            while served.api._open < most // 2:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        status, said, _ = await served.ask("/v1/decisions", VIEWER)
        assert (status, said["code"]) == (503, "too_busy"), "the viewer has had its half"
        frozen, *_ = await served.ask(
            "/v1/agents/coder-rival/freeze", key_of("rival", "admin"), method="POST",
            body={"reason": "it is attacked"},
        )  # fmt: skip
        assert frozen == 200, "another tenant holds up its agent"
    async with asyncio.timeout(5):
        while served.api._open:
            await asyncio.sleep(0.01)
    assert (await served.ask("/v1/decisions", VIEWER))[0] == 200, "and nothing is kept of them"
    assert not served.api._open_shares._by_whom


@pytest.mark.parametrize("path", ["/v1/policies/check", "/console/sign-in"])
async def test_g6_who_hangs_up_in_the_middle_of_a_body_leaves_no_error_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    kind = "application/json" if path.startswith("/v1") else "application/x-www-form-urlencoded"
    head = SLOW.decode().replace("/v1/policies/check", path).replace("application/json", kind)
    caplog.set_level(logging.WARNING)
    async with lasting(
        served, head.replace("Host:", "Origin: http://localhost\r\nHost:").encode(), 3
    ):
        await asyncio.sleep(0.2)
    await asyncio.sleep(0.2)
    assert not [one.message for one in caplog.records if one.name.startswith("aegis")]


async def test_g1_one_tenant_cannot_keep_another_from_its_export(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = "sidecar.control.api.verifying._exported"

    async def endless(*_: object) -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    def export(tenant: str) -> bytes:
        key = key_of(tenant, "auditor")
        head = f"GET /v1/receipts/export HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}"
        return f"{head}\r\n\r\n".encode()

    with monkeypatch.context() as patched:
        patched.setattr(real, endless)
        async with lasting(served, export("acme"), 4):
            async with asyncio.timeout(5):
                while not served.api._streams:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            patched.undo()
            admin = key_of("acme", "admin")
            status, said, _ = await served.ask("/v1/receipts/export", admin)
            assert (status, said["code"]) == (503, "too_busy"), "somebody else of the same tenant"
            rival = key_of("rival", "auditor")
            assert (await served.ask("/v1/receipts/export", rival))[0] == 200


def test_e8_of_one_tenant_each_person_has_half_and_together_they_have_all() -> None:
    shares, persons = Shares(has_tenants=False), [Person("t", n, f"person:{n}") for n in "ab"]

    @contextlib.contextmanager
    def many(count: int, person: Person) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(shares.one_of(4, person))
            yield

    with many(2, persons[0]), many(2, persons[1]):
        for person in persons:
            with pytest.raises(ApiProblem), many(1, person):
                pass
    with many(2, persons[0]):
        pass
