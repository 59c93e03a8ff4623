"""Only public addresses unless the configuration says otherwise (B25)."""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from sidecar.addresses import PublicResolver, is_literal, is_public


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "::1"]
    + ["::", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::"]
    + ["64:ff9b::7f00:1", "100.64.0.1", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1"]
    + ["localhost", "", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
)
def test_b25_private_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822"])
def test_b25_public_addresses(address: str) -> None:
    assert is_public(address)


def test_literals() -> None:
    assert is_literal("127.0.0.1")
    assert is_literal("::1")
    assert not is_literal("2130706433.example")
    assert not is_literal("localhost")


class _Fixed(AbstractResolver):
    def __init__(self, *hosts: str) -> None:
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=0, flags=0)
            for one in self._hosts
        ]

    async def close(self) -> None:
        pass


async def test_b25_a_name_with_one_private_address_is_refused() -> None:
    assert await PublicResolver(_Fixed("93.184.216.34")).resolve("a.example")
    with pytest.raises(OSError, match="private"):
        await PublicResolver(_Fixed("93.184.216.34", "127.0.0.1")).resolve("a.example")


@pytest.mark.parametrize("name", ["localhost", "2130706433", "0x7f.1", "017700000001"])
async def test_b25_odd_spellings_of_loopback_end_at_their_address(name: str) -> None:
    with pytest.raises(OSError, match="private"):
        await PublicResolver().resolve(name)


@pytest.mark.parametrize("text", ["fec0::1", "feff::1"])
def test_b25_site_local_addresses_are_not_public(text: str) -> None:
    assert not is_public(text)
