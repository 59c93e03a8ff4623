"""Sockets that listen: one for each address of a name, all of them or none."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from sidecar import listening
from sidecar.listening import listening_sockets


class Machine:
    """One whose `localhost` is ::1 and 127.0.0.1, and that has no IPv6 in some way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *refused: tuple[str, str, int]) -> None:
        self.opened: list[socket.socket] = []
        self._refused = {(step, host): number for step, host, number in refused}
        made = socket.socket

        def getaddrinfo(host: str, port: int, *others: Any) -> Any:
            kind = (socket.SOCK_STREAM, 6, "")
            found = [
                (socket.AF_INET6, *kind, ("::1", port, 0, 0)),
                (socket.AF_INET, *kind, ("127.0.0.1", port)),
            ]
            return found[:1] if host == "::1" else found

        class Socket(made):  # type: ignore[valid-type, misc]
            def __init__(own, family: int = -1, *others: Any, **more: Any) -> None:
                host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
                self.refuse("socket", host)
                # What no IPv6 is behind is played by the other family.
                super().__init__(socket.AF_INET, *others, **more)
                self.opened.append(own)

            def setsockopt(own, level: int, *others: Any) -> None:
                if level != socket.IPPROTO_IPV6:
                    super().setsockopt(level, *others)

            def bind(own, place: Any) -> None:
                self.refuse("bind", place[0])
                super().bind(("127.0.0.1", place[1]))

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(listening.socket, "socket", Socket)

    def refuse(self, step: str, host: str) -> None:
        number = self._refused.get((step, host))
        if number is not None:
            raise OSError(number, "refused")


@pytest.mark.parametrize(
    "refused", [("bind", "::1", errno.EADDRNOTAVAIL), ("socket", "::1", errno.EAFNOSUPPORT)]
)
async def test_localhost_listens_where_there_is_no_ipv6(
    monkeypatch: pytest.MonkeyPatch, refused: tuple[str, str, int]
) -> None:
    machine = Machine(monkeypatch, refused)
    found = await listening_sockets("localhost", 0, 8)
    assert [one.getsockname()[0] for one in found] == ["127.0.0.1"]
    assert [one.fileno() for one in machine.opened if one not in found] in ([], [-1])
    found[0].close()
    with pytest.raises(OSError):
        await listening_sockets("::1", 0, 8)


@pytest.mark.parametrize(
    "refused",
    [
        [("bind", "::1", errno.EADDRINUSE)],
        [("bind", "127.0.0.1", errno.EADDRINUSE)],
        [("bind", "127.0.0.1", errno.EADDRNOTAVAIL)],
        [("bind", "::1", errno.EADDRNOTAVAIL), ("bind", "127.0.0.1", errno.EADDRINUSE)],
        [("socket", "::1", errno.EMFILE)],
    ],
    ids=["taken", "the other taken", "the other missing", "missing and taken", "no files"],
)
async def test_else_it_is_all_addresses_or_none(
    monkeypatch: pytest.MonkeyPatch, refused: list[tuple[str, str, int]]
) -> None:
    machine = Machine(monkeypatch, *refused)
    with pytest.raises(OSError) as raised:
        await listening_sockets("localhost", 0, 8)
    assert raised.value.errno == refused[-1][2]
    assert all(one.fileno() == -1 for one in machine.opened)
