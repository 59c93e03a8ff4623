"""Names are looked up apart from each other."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.identity import jwks
from sidecar.lookups import OwnThreadResolver

#: More than the threads that an event loop shares among all who look up, whatever loop it is.
HANGING = 64


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set no name that begins with `hangs` is answered; `ok` and `link` are."""
    event, real = threading.Event(), socket.getaddrinfo

    def answer(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host.startswith("hangs"):
            event.wait(20)
        if host == "link":
            place = ("fe80::1", port, 0, 1)
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", place)]
        if host == "nobody":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real("127.0.0.1", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    yield event
    event.set()


async def test_names_that_hang_hold_up_no_other(released: threading.Event) -> None:
    names = OwnThreadResolver()
    hanging = [
        asyncio.ensure_future(names.resolve(f"hangs{number}", 80)) for number in range(HANGING)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        (found,) = await names.resolve("ok", 80, socket.AF_UNSPEC)
    assert (found["host"], found["port"], found["family"]) == ("127.0.0.1", 80, socket.AF_INET)
    given_up = hanging.pop()
    given_up.cancel()
    released.set()
    assert len(await asyncio.gather(*hanging)) == HANGING - 1
    assert given_up.cancelled()


async def test_a_name_that_is_tried_again_and_again_has_one_thread(
    released: threading.Event,
) -> None:
    names, before = OwnThreadResolver(), threading.active_count()
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await names.resolve("hangs", 443)
    assert threading.active_count() <= before + 1
    again = asyncio.ensure_future(names.resolve("hangs", 443))
    await asyncio.sleep(0)
    released.set()
    assert (await again)[0]["host"] == "127.0.0.1"
    assert (await names.resolve("hangs", 443))[0]["port"] == 443, "looked up anew"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "LocalHost.", "tool.localhost"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_what_is_on_this_machine_is_found_whatever_networks_it_is_on(
    host: str, family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As glibc answers on a machine with addresses of one family, loopback apart."""
    places = {socket.AF_INET: ("127.0.0.1", 80), socket.AF_INET6: ("::1", 80, 0, 0)}

    def answer(name: str, *_: Any, flags: int = 0) -> Any:
        if name in ("127.0.0.1", "::1"):
            kept = [socket.AF_INET6 if ":" in name else socket.AF_INET]
        else:
            kept = list(places)
        if flags & socket.AI_ADDRCONFIG:
            kept = [one for one in kept if one == family]
        if not kept:
            raise socket.gaierror(-9, "Address family for hostname not supported")
        return [(one, socket.SOCK_STREAM, 6, "", places[one]) for one in kept]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    found = await OwnThreadResolver().resolve(host, 80, socket.AF_UNSPEC)
    addresses = [one["host"] for one in found]
    both = ["127.0.0.1", "::1"] if family == socket.AF_INET else ["::1", "127.0.0.1"]
    assert addresses == ([host] if host in both else both)
    (only,) = await OwnThreadResolver().resolve("tool.example", 80, socket.AF_UNSPEC)
    assert only["family"] == family, "elsewhere it goes by what the machine has"


async def test_the_link_of_an_address_and_why_there_is_none(released: threading.Event) -> None:
    names = OwnThreadResolver()
    (found,) = await names.resolve("link", 80, socket.AF_INET6)
    assert found["host"] == f"fe80::1%{socket.if_indextoname(1)}"
    with pytest.raises(socket.gaierror):
        await names.resolve("nobody", 80)


async def test_the_keys_of_an_issuer_are_not_looked_up_on_the_threads_of_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that hung and was tried again held up all calls: each connection needs these threads."""
    looked: list[str] = []

    def answer(*_: Any, **__: Any) -> Any:
        looked.append(threading.current_thread().name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    with pytest.raises(OSError, match=r"idp\.test"):
        await jwks.fetched("https://idp.test/keys")
    assert looked == ["look up a name"]


async def test_no_thread_to_be_had_is_an_error_of_the_look_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="thread"):
        await OwnThreadResolver().resolve("ok", 80)
