"""Signed links: a text that lets one named person decide on one approval, for so long.

Knows: that whoever has the link is taken for the person it names, so it is made for one approval,
ends with it, and its vote is that person's one vote: used again it changes nothing. It is signed
with a key of the store's, so that each node knows what another made. Who makes one for somebody
else is on record, with for whom; sinks are given the one of their own person as often as they need.
Must not know: HTTP, who hands a link to whom.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import orjson

from sidecar.approvals.entries import link_entry
from sidecar.approvals.refusals import ApprovalRefused
from sidecar.model import Person, Role

if TYPE_CHECKING:
    from sidecar.approvals.changes import Changes
    from sidecar.clock import Clock
    from storage.standing import ApprovalRow

KEY_NAME: Final = "approval_link_key"
KEY_BYTES: Final = 32
#: What the signature is over, besides the link: it can be taken for nothing else.
_PURPOSE: Final = b"aegis-sidecar approval link v1\n"
LINK_CHARS_MAX: Final = 2048
#: Where a link is followed, on the control listener.
PATH: Final = "/approvals/link"


class KeepsState(Protocol):
    """What is needed of a store."""

    async def kept_state(self, name: str, value: str) -> str:
        """A named value of the store's; `value` becomes it if there is none."""
        ...


class Link(NamedTuple):
    """Whose vote on what, until when (microseconds UTC by the store's clock)."""

    tenant: str
    approval_id: str
    name: str
    groups: tuple[str, ...]
    until_us: int

    @property
    def person(self) -> Person:
        """Who votes by it."""
        roles = frozenset({Role.APPROVER})
        return Person(self.tenant, self.name, f"link:{self.name}", roles, frozenset(self.groups))


def signed(link: Link, key: bytes) -> str:
    """The link as a text that fits into a path."""
    said = orjson.dumps(list(link))
    return f"{_text(said)}.{_text(hmac.digest(key, _PURPOSE + said, 'sha256'))}"


def read(text: str, key: bytes, at_us: int) -> Link:
    """What `signed` made. Raises ApprovalRefused: forged_link, expired_link."""
    said, _, signature = text.partition(".")
    try:
        if len(text) > LINK_CHARS_MAX:
            raise ValueError("too long")
        content, given = _bytes(said), _bytes(signature)
        if not hmac.compare_digest(hmac.digest(key, _PURPOSE + content, "sha256"), given):
            raise ValueError("not signed by this store's key")
        tenant, approval_id, name, groups, until_us = orjson.loads(content)
    except (ValueError, TypeError) as error:
        raise ApprovalRefused("forged_link") from error
    if at_us >= until_us:
        raise ApprovalRefused("expired_link")
    return Link(tenant, approval_id, name, tuple(groups), until_us)


class Links:
    """Makes and reads links with the store's key, which is made when it is first needed."""

    def __init__(self, changes: Changes, keeps: KeepsState, clock: Clock) -> None:
        self._changes = changes
        self._keeps = keeps
        self._clock = clock
        self._key = b""

    async def made(self, row: ApprovalRow, name: str, groups: Sequence[str]) -> str:
        """A link for this person, which ends with the approval. Raises StoreError."""
        link = Link(row.tenant_id, row.approval_id, name, tuple(groups), row.expires_at_us)
        return signed(link, await self._known_key())

    async def given(self, row: ApprovalRow, name: str, groups: Sequence[str], actor: str) -> str:
        """The same for `actor`, who hands it on: that is on record before he has it.
        Raises StoreError, Refused."""
        key = await self._known_key()
        link = Link(row.tenant_id, row.approval_id, name, tuple(groups), row.expires_at_us)
        await self._changes.record(
            link_entry(
                self._clock, row, actor=actor, name=name, groups=groups, until_us=link.until_us
            )
        )
        return signed(link, key)

    async def read(self, text: str) -> Link:
        """Whose vote on what. Raises ApprovalRefused, StoreError."""
        return read(text, await self._known_key(), self._changes.now_us())

    async def _known_key(self) -> bytes:
        if not self._key:
            fresh = self._clock.random_bytes(KEY_BYTES).hex()
            self._key = bytes.fromhex(await self._keeps.kept_state(KEY_NAME, fresh))
        return self._key


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Raises ValueError for what `_text` would not write."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("no base64url") from error
    if _text(content) != text:
        raise ValueError("another way to write the same")
    return content
