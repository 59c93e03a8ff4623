"""Sends checkpoints where this process cannot rewrite them, and refuses to go on from a fork.

Knows: the kinds of target (a file, a C2SP witness, any URL that takes a note), and what has to hold
before a head is added to those that are there: what is there last is of this very history. A fork
is kept as evidence: of a file the head that stands there, of a witness, which shows none, the head
of ours that it refused beside its own.
Must not know: when heads are signed, how often it is tried again.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urldefrag

from sidecar.counted import counted
from sidecar.ledger.checkpoint import read_signed
from sidecar.ledger.checkpoint_file import CheckpointFile, Kept
from sidecar.ledger.proofs import NoProof, consistency, root_at
from sidecar.ledger.rollback import ROLLBACK, lost_up_to
from sidecar.ledger.tiles import TreeIncomplete
from sidecar.signed_note import (
    BadNote,
    Note,
    SigningKey,
    VerifierKey,
    read_signatures,
    read_verifier_key,
)
from storage.retention import CareReader
from storage.sql_store import SqlReader
from storage.tree import ACCEPTED, FORK, CheckpointRow, TreeReader

if TYPE_CHECKING:
    import aiohttp

FILE = "file:"
REQUEST_S = 10.0
#: Of a head that a witness has, and does not show.
UNKNOWN_ROOT = ""
ANSWER_BYTES_MAX = 64 * 1024
#: Rollbacks of a chain that are looked at, the newest ones.
ROLLBACKS_MAX = 100
_NEWEST = 2**53 - 1

#: Why a head was not taken; metrics have these as labels.
REASONS = (
    "unwritable", "unreachable", "rejected", "ahead", "fork", "foreign", "unsigned", "incomplete",
    "store",
)  # fmt: skip


class NotTaken(Exception):
    """A target has not taken a head. `reason` is one of REASONS; `evidence` is a head that it has
    and that is not of this history, `size` how many receipts that head is of."""

    def __init__(
        self, reason: str, what: str, evidence: CheckpointRow | None = None, size: int = 0
    ) -> None:
        super().__init__(what)
        self.reason = reason
        self.evidence = evidence
        self.size = size


class Target(Protocol):
    """A place heads are sent to."""

    name: str

    async def deliver(self, row: CheckpointRow) -> str | None:
        """Gives it a head; the note again if there are more signatures on it now.

        Raises NotTaken or a StoreError.
        """
        ...

    async def close(self) -> None:
        """Nothing is delivered any more."""
        ...


def made_target(text: str, reader: SqlReader, key: SigningKey) -> Target:
    """The target that a setting names."""
    if text.startswith(FILE):
        return FileTarget(Path(text.removeprefix(FILE)), reader, key)
    return made_url_target(text, reader)


def made_url_target(text: str, reader: SqlReader) -> UrlTarget:
    """The target behind a URL; a witness if its key follows."""
    url, fragment = urldefrag(text)
    witness = read_verifier_key(fragment) if fragment else None
    return UrlTarget(url, reader, witness)


# -- files -------------------------------------------------------------------------------------


class FileTarget:
    """A file, or a folder with a file for each chain."""

    def __init__(self, path: Path, reader: SqlReader, key: SigningKey) -> None:
        self.name = f"{FILE}{path}"
        self._file = CheckpointFile(path)
        self._reader = reader
        self._key = key

    async def deliver(self, row: CheckpointRow) -> str | None:
        """See `Target.deliver`."""
        checkpoint, note = read_signed(row.note)
        try:
            while True:
                last = await asyncio.to_thread(self._file.last, checkpoint.origin)
                if last is not None and not await self._is_before(last, row):
                    return None
                kept = Kept(checkpoint, note)
                if await asyncio.to_thread(self._file.append, kept, row.at_us):
                    return None
        except OSError as error:
            raise NotTaken("unwritable", f"{self.name}: {error.strerror or error}") from error

    async def close(self) -> None:
        """See `Target.close`."""

    async def _is_before(self, last: Kept, row: CheckpointRow) -> bool:
        """Whether `row` goes on from what is there last; False if it, or more, is there already.

        Raises NotTaken for what is ahead of the store or of another history.
        """
        there = last.checkpoint
        if there.size == row.size and there.root.hex() == row.root:
            return False
        if await is_accepted(self._reader, row.tenant_id, there.size, there.root):
            return True
        head = await self._reader.head(row.tenant_id)
        if there.size > head.seq:
            self._require_own(last)
            raise NotTaken(
                "ahead",
                f"{self.name} has a head of {counted(there.size, 'receipt')}, we have {head.seq}",
            )
        try:
            root = await root_at(self._reader, row.tenant_id, there.size)
        except (NoProof, TreeIncomplete) as error:
            raise NotTaken("incomplete", f"{self.name}: {error}") from error
        if root != there.root:
            self._require_own(last)
            evidence = CheckpointRow(
                row.tenant_id, there.size, there.root.hex(), FORK, last.note.whole, row.at_us
            )
            raise NotTaken(
                "fork",
                f"{self.name} has another history at {counted(there.size, 'receipt')}",
                evidence,
            )
        return there.size < row.size

    def _require_own(self, last: Kept) -> None:
        """Raises NotTaken if what is there was not signed by us: then it says nothing of us."""
        if not is_signed_by(last, self._key):
            raise NotTaken("foreign", f"{self.name} has a head that this key did not sign")


def is_signed_by(kept: Kept, key: SigningKey) -> bool:
    """Whether a head bears this key's signature under its own origin's name."""
    try:
        return kept.note.signature_by(key.verifier(kept.checkpoint.origin)) is not None
    except BadNote:
        return False


async def is_accepted(reader: SqlReader, tenant_id: str, size: int, root: bytes) -> bool:
    """Whether it is on record that this head is of a history that was given up."""
    rows = await TreeReader(reader).checkpoints_at(tenant_id, size)
    is_named = any(row.kind == ACCEPTED and row.root == root.hex() for row in rows)
    return is_named and await _is_on_record(reader, tenant_id, size)


async def gave_up_at(reader: SqlReader, tenant_id: str, size: int) -> bool:
    """Whether it is on record that a history was given up which had a head of this size."""
    rows = await TreeReader(reader).checkpoints_at(tenant_id, size)
    is_named = any(row.kind == ACCEPTED for row in rows)
    return is_named and await _is_on_record(reader, tenant_id, size)


async def _is_on_record(reader: SqlReader, tenant_id: str, size: int) -> bool:
    """Whether a receipt of the chain says that so many receipts were given up: the row of a head
    is nothing by itself, for whoever put an older store back can write it too. Of a receipt that
    stands in an archive its audit event is believed."""
    told = await reader.audit_events(tenant_id, _NEWEST, ROLLBACKS_MAX, action=ROLLBACK)
    cut = (await CareReader(reader).cut(tenant_id)).seq if told else 0
    for one in told:
        if one.seq <= cut:
            return True
        receipts = await reader.receipts(tenant_id, one.seq - 1, 1)
        if any(row.seq == one.seq and lost_up_to(row) >= size for row in receipts):
            return True
    return False


# -- URLs --------------------------------------------------------------------------------------


class UrlTarget:
    """A C2SP witness (tlog-witness `add-checkpoint`) if its key is given; else the note is posted
    as it is, and any 2xx will do."""

    def __init__(self, url: str, reader: SqlReader, witness: VerifierKey | None) -> None:
        self.name = url
        self._url = url
        self._reader = reader
        self._witness = witness
        self._session: aiohttp.ClientSession | None = None
        #: The size that the witness cosigned last, by tenant.
        self._sizes: dict[str, int] = {}

    @property
    def is_witness(self) -> bool:
        """Whether its answers say something of a history."""
        return self._witness is not None

    async def deliver(self, row: CheckpointRow) -> str | None:
        """See `Target.deliver`."""
        if self._witness is None:
            status, _ = await self._post(row.note)
            self._require_taken(status)
            return None
        old = self._sizes.get(row.tenant_id, 0)
        status, answer = await self._post(await self._request(row, old))
        if status == 409:
            old = self._size_there(answer)
            if old > row.size:
                if await self._is_of_another_node(row.tenant_id, old):
                    # It vouches for this one.
                    self._sizes[row.tenant_id] = old
                    return None
                what = f"{self.name} has a head of {counted(old, 'receipt')} already"
                raise NotTaken("ahead", what, size=old)
            self._sizes[row.tenant_id] = old
            status, answer = await self._post(await self._request(row, old))
        if status in (409, 422):
            what = f"{self.name} says that this is another history ({status})"
            raise NotTaken("fork", what, await self._evidence(row, old), old)
        self._require_taken(status)
        note = self._cosigned(row.note, answer, self._witness)
        self._sizes[row.tenant_id] = row.size
        return note

    async def close(self) -> None:
        """See `Target.close`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _is_of_another_node(self, tenant_id: str, size: int) -> bool:
        """Whether a head that a witness has was sent by another node of this store: then it is
        signed here, for no head is sent before it is durable."""
        latest = await TreeReader(self._reader).latest_checkpoint(tenant_id)
        return latest is not None and latest.size >= size

    async def _evidence(self, row: CheckpointRow, size: int) -> CheckpointRow | None:
        """The head that was refused, under the size of the one a witness has instead, whose root it
        does not tell. None for a history that was given up on record."""
        if await gave_up_at(self._reader, row.tenant_id, size):
            return None
        return CheckpointRow(row.tenant_id, size, UNKNOWN_ROOT, FORK, row.note, row.at_us)

    async def _request(self, row: CheckpointRow, old: int) -> str:
        try:
            shown = await consistency(self._reader, row.tenant_id, old, row.size)
        except (NoProof, TreeIncomplete) as error:
            raise NotTaken("incomplete", f"{self.name}: {error}") from error
        proof = "".join(f"{base64.b64encode(one).decode()}\n" for one in shown.hashes)
        return f"old {old}\n{proof}\n{row.note}"

    async def _post(self, body: str) -> tuple[int, str]:
        import aiohttp  # only for those who send heads to a URL

        from sidecar.lookups import OwnThreadResolver

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=OwnThreadResolver()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=REQUEST_S),
                headers={"Content-Type": "text/plain; charset=utf-8"},
            )
        try:
            async with self._session.post(
                self._url, data=body.encode(), allow_redirects=False
            ) as reply:
                answer = await reply.content.read(ANSWER_BYTES_MAX)
                return reply.status, answer.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotTaken("unreachable", f"{self.name}: {type(error).__name__}") from error

    def _require_taken(self, status: int) -> None:
        if not 200 <= status < 300:
            raise NotTaken("rejected", f"{self.name} answered {status}")

    def _size_there(self, answer: str) -> int:
        text = answer.removesuffix("\n")
        if not (text.isascii() and text.isdigit() and len(text) <= 16):
            raise NotTaken("rejected", f"{self.name} answered 409 without a size")
        return int(text)

    def _cosigned(self, note: str, answer: str, witness: VerifierKey) -> str:
        """The note with the witness's line; others' lines in its answer are passed over."""
        whole = read_signed(note)[1]
        try:
            given = Note(whole.text, read_signatures(answer))
            line = given.signature_by(witness)
        except BadNote as error:
            raise NotTaken("unsigned", f"{self.name}: {error}") from error
        if line is None:
            raise NotTaken("unsigned", f"{self.name} did not sign with {witness.name}")
        own = tuple(
            one
            for one in whole.signatures
            if (one.name, one.key_id) != (witness.name, witness.key_id)
        )
        return Note(whole.text, (*own, line)).whole
