"""Heads sent to URLs: a C2SP witness that keeps state and cosigns, and any URL that takes a note.

The witness here is written from C2SP tlog-witness alone and speaks over a real socket.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_checkpoint_setup import checkpointer, key_of, opened, record
from ledger_tree_reference import key_id, roots_of_subproof, signed_head

from sidecar.ledger.checkpoint import read_signed
from sidecar.ledger.checkpointer import Checkpointer
from sidecar.ledger.proofs import latest_checkpoint
from sidecar.signed_note import COSIGNATURE, VerifierKey
from storage.sql_store import SqlStore

AT_S = 1_790_000_000


class Witness:
    """One log's latest head by origin; refuses what is not consistent with it."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(b"\x77" * 32)
        self.public = self.private.public_key().public_bytes_raw()
        self.name = "witness.example/w1"
        self.heads: dict[str, tuple[int, bytes]] = {}
        self.requests: list[str] = []
        self.answers: list[int] = []
        self.lies = ""
        self.log_key = key_of(1).public

    @property
    def vkey(self) -> str:
        return VerifierKey(self.name, self.public, COSIGNATURE).text

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.requests.append(body)
        status, text = self.answer(body)
        self.answers.append(status)
        return web.Response(status=status, text=text)

    def answer(self, body: str) -> tuple[int, str]:
        head, _, note = body.partition("\n\n")
        first, *lines = head.split("\n")
        old = int(first.removeprefix("old "))
        proof = [base64.b64decode(line) for line in lines]
        found = signed_head(note, self.log_key)
        if found is None:
            return 403, ""
        origin, size, root = found
        known, known_root = self.heads.get(origin, (0, b""))
        if old != known:
            return 409, f"{known}\n"
        if old == size and root != known_root:
            return 409, f"{known}\n"
        if 0 < old < size:
            try:
                if roots_of_subproof(old, size, proof, known_root) != (known_root, root):
                    return 422, ""
            except (IndexError, ValueError):
                return 422, ""
        elif proof:
            return 422, ""
        self.heads[origin] = (size, root)
        return 200, self.cosigned(note)

    def cosigned(self, note: str) -> str:
        text = note[: note.rindex("\n\n") + 1]
        message = f"cosignature/v1\ntime {AT_S}\n{text}".encode()
        signature = AT_S.to_bytes(8, "big") + self.private.sign(message)
        if self.lies == "signature":
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        name = "another.example/w" if self.lies == "name" else self.name
        material = key_id(name, 4, self.public) + signature
        other = base64.b64encode(b"\0" * 76).decode()
        return f"— other.example {other}\n— {name} {base64.b64encode(material).decode()}\n"


@asynccontextmanager
async def listening(witness: Witness) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_post("/add-checkpoint", witness.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}/add-checkpoint"
    finally:
        await runner.cleanup()


async def one_turn(one: Checkpointer) -> bool:
    await one.turn(is_last=True)
    return await one.exporters[0].deliver_all()


async def ended(one: Checkpointer) -> None:
    for exporter in one.exporters:
        await exporter.close()


async def note_of(store: SqlStore) -> str:
    row = await latest_checkpoint(store, "default")
    assert row is not None
    return row.note


async def test_a_witness_is_shown_consistency_and_its_cosignature_is_kept(tmp_path: Path) -> None:
    witness = Witness()
    async with listening(witness) as url, opened(tmp_path) as store:
        one = checkpointer(store, f"{url}#{witness.vkey}")
        for count in (3, 300, 1):
            await record(store, count)
            assert await one_turn(one)
        assert witness.answers == [200, 200, 200]
        assert [body.split("\n")[0] for body in witness.requests] == ["old 0", "old 3", "old 303"]
        _, note = read_signed(await note_of(store))
        assert len(note.signatures) == 2, "ours and the witness's, not the stranger's"
        line = note.signature_by(VerifierKey(witness.name, witness.public, COSIGNATURE))
        assert line is not None and int.from_bytes(line.value[:8], "big") == AT_S
        await ended(one)
        # After a restart nothing is known of the witness: it says where it is.
        await record(store, 5)
        again = checkpointer(store, f"{url}#{witness.vkey}")
        assert await one_turn(again)
        assert witness.answers[3:] == [409, 200]
        await ended(again)


async def test_f3_a_witness_refuses_a_second_history(tmp_path: Path) -> None:
    witness = Witness()
    async with listening(witness) as url:
        async with opened(tmp_path) as store:
            await record(store, 2)
        older = (tmp_path / "aegis.db").read_bytes()
        async with opened(tmp_path) as store:
            await record(store, 5)
            one = checkpointer(store, f"{url}#{witness.vkey}")
            assert await one_turn(one)
            await ended(one)
        (tmp_path / "aegis.db").write_bytes(older)
        async with opened(tmp_path) as store:
            await record(store, 1, who="other")
            one = checkpointer(store, f"{url}#{witness.vkey}")
            assert not await one_turn(one)
            assert one.exporters[0].failures_total == {"ahead": 1}
            await record(store, 9, who="other")
            assert not await one_turn(one)
            assert one.exporters[0].failures_total == {"ahead": 1, "fork": 1}
            await ended(one)
        assert [size for size, _ in witness.heads.values()] == [7]


@pytest.mark.parametrize("lie", ["signature", "name"])
async def test_f4_a_cosignature_that_does_not_hold_is_not_kept(tmp_path: Path, lie: str) -> None:
    witness = Witness()
    async with listening(witness) as url, opened(tmp_path) as store:
        await record(store, 3)
        witness.lies = lie
        one = checkpointer(store, f"{url}#{witness.vkey}")
        assert not await one_turn(one)
        assert one.exporters[0].failures_total == {"unsigned": 1}
        assert len(read_signed(await note_of(store))[1].signatures) == 1
        witness.lies = ""
        assert await one.exporters[0].deliver_all(), "positive control"
        assert len(read_signed(await note_of(store))[1].signatures) == 2
        await ended(one)


async def test_any_url_takes_the_note_as_it_is(tmp_path: Path) -> None:
    taken: list[str] = []

    class Sink(Witness):
        def answer(self, body: str) -> tuple[int, str]:
            taken.append(body)
            return (503, "") if len(taken) == 1 else (204, "")

    async with listening(Sink()) as url, opened(tmp_path) as store:
        await record(store, 3)
        one = checkpointer(store, url)
        assert not await one_turn(one)
        assert one.exporters[0].failures_total == {"rejected": 1}
        assert await one.exporters[0].deliver_all()
        assert taken == [await note_of(store)] * 2
        await ended(one)


async def test_a_witness_that_is_not_there_or_knows_us_not(tmp_path: Path) -> None:
    witness = Witness()
    witness.log_key = key_of(2).public
    async with listening(witness) as url, opened(tmp_path) as store:
        await record(store, 3)
        one = checkpointer(store, f"{url}#{witness.vkey}", "http://127.0.0.1:9/add")
        await one.turn(is_last=True)
        for exporter in one.exporters:
            assert not await exporter.deliver_all()
        assert [dict(e.failures_total) for e in one.exporters] == [
            {"rejected": 1},
            {"unreachable": 1},
        ]
        await ended(one)
