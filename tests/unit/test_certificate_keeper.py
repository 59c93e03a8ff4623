"""A listener's certificate is taken over when its files change, and only when it can be used."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from certificates import Authority

from sidecar import certificate_keeper
from sidecar.certificate_keeper import CertificateKeeper
from sidecar.config.certificates import ListenerContext, Material, listener_context
from sidecar.config.model import ListenerTls, Pem
from sidecar.errors import StartRefused

AUTHORITY = Authority()


def keeper_of(folder: Path) -> CertificateKeeper:
    certificate, key = AUTHORITY.sign(days=10).write(folder)
    return CertificateKeeper("data", ListenerTls(cert=Pem(path=certificate), key=Pem(path=key)))


async def test_a_changed_pair_is_taken_over(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    told: list[ssl.SSLContext] = []
    keeper.on_change = told.append
    first, expires_us = keeper.context, keeper.expires_us
    assert not await keeper.look()
    assert keeper.context is first
    AUTHORITY.sign(days=20).write(tmp_path)
    assert await keeper.look()
    assert told == [keeper.context]
    assert keeper.context is not first
    assert keeper.expires_us - expires_us == pytest.approx(10 * 86_400e6, rel=0.01)
    assert not await keeper.look()


async def test_half_a_change_leaves_the_pair_that_works(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    first, other = keeper.context, AUTHORITY.sign()
    (tmp_path / "server.pem").write_bytes(other.certificate)
    assert not await keeper.look()
    assert (keeper.context, keeper.reload_succeeded) == (first, False)
    (tmp_path / "server.key").write_bytes(other.key)
    assert await keeper.look()
    assert keeper.reload_succeeded
    assert keeper.context is not first


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "server.key").unlink(),
        lambda folder: (folder / "server.key").write_text("nothing"),
        lambda folder: (folder / "server.pem").write_text(""),
        lambda folder: (folder / "server.key").chmod(0o644),
    ],
)
async def test_what_cannot_be_used_is_told_and_the_old_one_stays(
    tmp_path: Path, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = keeper_of(tmp_path)
    first = keeper.context
    spoil(tmp_path)  # type: ignore[operator]
    assert not await keeper.look()
    assert not await keeper.look()
    assert (keeper.context, keeper.reload_succeeded) == (first, False)
    said = [one for one in caplog.records if one.levelname == "ERROR"]
    assert [one.getMessage() for one in said] == [
        "a certificate cannot be used; the one before stays"
    ]


#: On a curve of 112 bits, which nobody serves any more.
ODD_KEY = b"""-----BEGIN EC PRIVATE KEY-----
MD4CAQEEDn4GkUFU9EDzrmYxC33HoAcGBSuBBAAGoSADHgAEEJCxYHlHaEmBFX+0
ovvX0jKFpWqtrX82lLLWaw==
-----END EC PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    "fault", [OSError(24, "Too many open files"), RuntimeError("a fault of ours")]
)
async def test_looking_goes_on_whatever_went_wrong_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def failing(material: Material) -> ListenerContext:
        calls.append(material)
        if len(calls) < 3:
            raise fault
        return listener_context(material)

    calls: list[Material] = []
    keeper = keeper_of(tmp_path)
    first = keeper.context
    monkeypatch.setattr(certificate_keeper, "POLL_S", 0.001)
    monkeypatch.setattr(certificate_keeper, "listener_context", failing)
    AUTHORITY.sign(days=20).write(tmp_path)
    looking = asyncio.ensure_future(keeper.run())
    async with asyncio.timeout(10):
        while keeper.context is first and not looking.done():
            await asyncio.sleep(0.001)
    looking.cancel()
    assert (keeper.context is not first, keeper.reload_succeeded) == (True, True)


async def test_a_key_of_a_kind_that_cannot_be_used_is_one_that_is_replaced(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    first = keeper.context
    (tmp_path / "server.key").write_bytes(ODD_KEY)
    assert not await keeper.look()
    assert (keeper.context, keeper.reload_succeeded) == (first, False)
    AUTHORITY.sign(days=20).write(tmp_path)
    assert await keeper.look()
    with pytest.raises(ValueError, match="of a kind that cannot be used"):
        listener_context(Material(AUTHORITY.sign().certificate, ODD_KEY))


def test_without_a_pair_there_is_no_start(tmp_path: Path) -> None:
    tls = ListenerTls(cert=Pem(path=tmp_path / "none.pem"), key=Pem(path=tmp_path / "none.key"))
    with pytest.raises(StartRefused, match=r"listen\.data\.tls"):
        CertificateKeeper("data", tls)


def test_what_is_wrong_is_said() -> None:
    good, other = AUTHORITY.sign(), AUTHORITY.sign()
    encrypted = good.key.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")
    for material, said in (
        (Material(good.certificate, other.key), "the key is not that of the certificate"),
        (Material(b"x", good.key), "cert holds no certificate"),
        (Material(good.certificate, b"x"), "key holds no private key"),
        (Material(good.certificate, encrypted), "encrypted|no private key"),
        (Material(good.certificate, good.key, b"x"), "client_ca holds no certificates"),
    ):
        with pytest.raises(ValueError, match=said):
            listener_context(material)
    assert listener_context(Material(good.certificate, good.key, AUTHORITY.pem)).expires_us
