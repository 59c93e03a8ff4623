"""What a receipt stands for without saying it: arguments, and the facts beside them. Pure.

Knows: that both go by the salt. A commitment is an HMAC under it, so that arguments which can be
guessed cannot be found by trying them; and the salt says itself beside which facts it stands, so
that whatever vouches for the salt vouches for them too, although no key of the receipt is theirs.
Where neither arguments nor an empty body would, the receipt has the HMAC of nothing.
Must not know: what arguments and facts say, chains, stores.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import Final

from storage.records import CallFactsRow, ReceiptRow

#: What is random of a salt; that of an older receipt is nothing else.
NONCE_BYTES: Final = 16
#: The nonce, and so much of SHA-256(nonce ‖ facts). Whoever wants other facts under a salt that
#: stands looks for a second preimage of these 128 bits.
SALT_BYTES: Final = 32
#: Where there are none.
NO_FACTS: Final = "{}"

#: Before the HMAC of nothing under the salt, in `resource` of a call whose arguments are not kept
#: and of an outcome.
OF_SALT: Final = "salt:"

#: Kinds whose `resource` may be that; of others it is what was done, in words of their own.
OF_CALLS: Final = ("intent", "refusal", "outcome")

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
_TAG_BYTES: Final = SALT_BYTES - NONCE_BYTES


class NotCommitted(ValueError):
    """What stands beside a receipt is not what the receipt stands for; the text says what."""


def salt_beside(nonce: bytes, facts: bytes) -> bytes:
    """The salt of a receipt beside which `facts` stand; `nonce` are NONCE_BYTES random bytes."""
    return nonce + sha256(nonce + facts).digest()[:_TAG_BYTES]


def shown_salt(salt: bytes) -> str:
    """What shows a salt to whoever has it, and nothing of it to others."""
    return hmac.digest(salt, b"", "sha256").hex()


def committed(tenant_id: str, nonce: bytes, arguments: bytes) -> tuple[str, CallFactsRow]:
    """`args_commitment` of canonical arguments, and the row beside the receipt, which has no facts
    but them."""
    salt = salt_beside(nonce, NO_FACTS.encode())
    commitment = hmac.digest(salt, arguments, "sha256").hex()
    return commitment, CallFactsRow(tenant_id, 0, salt.hex(), arguments.decode(), NO_FACTS)


def is_vouched_for(
    salt: str | None,
    arguments: str | None,
    facts: str | None,
    *,
    args_commitment: str | None,
    request_sha256: str | None,
    resource: str | None = None,
) -> bool:
    """Whether the receipt vouches for the facts; True where there are none.

    It does not where its salt is nothing but random, nor where nothing that is at hand shows that
    the salt is the receipt's: without arguments only a request without a body does, and what
    `resource` says of it. Raises NotCommitted if one of them is not what was recorded.
    """
    has_none = facts is None or facts == NO_FACTS
    if arguments is None and salt is None:
        if not has_none:
            raise NotCommitted("it has facts, and no salt that could stand for them")
        return True
    if _HEX.fullmatch(salt or "") is None:
        # Readers of hex differ on capitals and blanks: one would take what another does not.
        raise NotCommitted("its salt is not lower-case hex")
    key = bytes.fromhex(salt or "")
    is_of_receipt = arguments is not None
    if arguments is not None:
        if _digest(key, arguments.encode("utf-8", "surrogatepass")) != args_commitment:
            raise NotCommitted("its arguments are not those its args_commitment stands for")
    elif (said := resource or "").startswith(OF_SALT):
        is_of_receipt = said == OF_SALT + shown_salt(key)
        if not is_of_receipt:
            raise NotCommitted("its salt is not the one that its receipt stands for")
    elif request_sha256 is not None:
        is_of_receipt = shown_salt(key) == request_sha256
    if len(key) not in (NONCE_BYTES, SALT_BYTES):
        # HMAC takes a key with zeros behind it for the same key (RFC 2104 section 2), so one of
        # another length could be right and say nothing of the facts.
        raise NotCommitted(f"its salt has {len(key)} bytes, not {NONCE_BYTES} or {SALT_BYTES}")
    if facts is None or len(key) == NONCE_BYTES:
        return has_none
    if salt_beside(key[:NONCE_BYTES], facts.encode("utf-8", "surrogatepass")) != key:
        raise NotCommitted("its facts are not those its salt stands for")
    return is_of_receipt or has_none


def is_row_vouched_for(receipt: ReceiptRow, beside: CallFactsRow) -> bool:
    """The same of rows of a store."""
    return is_vouched_for(
        beside.salt,
        beside.arguments,
        beside.facts,
        args_commitment=receipt.args_commitment,
        request_sha256=receipt.request_sha256,
        resource=receipt.resource if receipt.kind in OF_CALLS else None,
    )


def _digest(key: bytes, message: bytes) -> str:
    return hmac.digest(key, message, "sha256").hex()
