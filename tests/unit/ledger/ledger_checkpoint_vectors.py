"""The published vectors of checkpoints and proofs, checkpoints.json: over the chain of v1.json,
computed by the second opinion and the Ed25519 of a library, not by the product.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_setup import reference_canonical
from ledger_tree_reference import key_id, mth, path, subproof
from ledger_vectors import bodies, hash_of

SEEDS = {"log": b"\x01" * 32, "stranger": b"\x02" * 32}


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(SEEDS[name])


def public(name: str) -> bytes:
    return private(name).public_key().public_bytes_raw()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def origin() -> str:
    return f"aegis-sidecar/acme/{hash_of(bodies()[0])[:16]}"


def leaves() -> list[bytes]:
    return [sha256(b"\x00" + reference_canonical(body)).digest() for body in bodies()]


def text_of(size: int, root: bytes, name: str | None = None) -> str:
    return f"{name or origin()}\n{size}\n{b64(root)}\n"


def note(text: str, *, by: str = "log", kind: int = 1, name: str | None = None) -> str:
    name = name or text.split("\n")[0]
    signature = private(by).sign(text.encode())
    return f"{text}\n— {name} {b64(key_id(name, kind, public(by)) + signature)}\n"


def head(size: int) -> str:
    return note(text_of(size, mth(leaves()[:size])))


def vkey(by: str = "log", kind: int = 1) -> str:
    material = bytes([kind]) + public(by)
    return f"{origin()}+{key_id(origin(), kind, public(by)).hex()}+{b64(material)}"


def proof(seq: int, size: int) -> str:
    body = bodies()[seq - 1]
    line = reference_canonical({**body, "receipt_hash": hash_of(body)})
    hashes = "".join(f"{b64(one)}\n" for one in path(seq - 1, leaves()[:size]))
    extra = f"extra {b64(line)}\nindex {seq - 1}\n"
    return f"c2sp.org/tlog-proof@v1\n{extra}{hashes}\n{head(size)}"


def rejected() -> list[dict[str, str]]:
    """Heads that must not be taken for one of these receipts, and how they are called."""
    eight, five = mth(leaves()), text_of(5, mth(leaves()[:5]))
    touched = head(5).replace("\n5\n", "\n4\n")
    return [
        {"name": "more than there are", "kind": "cut", "note": note(text_of(9, eight))},
        {"name": "another root", "kind": "rewritten", "note": note(text_of(5, eight))},
        {"name": "another size", "kind": "forged", "note": touched},
        {"name": "an unknown key", "kind": "unknown_key", "note": note(five, by="stranger")},
        {"name": "an unknown algorithm", "kind": "unknown_key", "note": note(five, kind=7)},
        {"name": "another's name", "kind": "unknown_key", "note": note(five, name="example.com/x")},
    ]


def checkpoint_vectors() -> dict[str, Any]:
    """The content of checkpoints.json."""
    tree = leaves()
    return {
        "format": "C2SP tlog-checkpoint and tlog-proof over the receipts of v1.json",
        "keys": {
            name: {"seed": seed.hex(), "public": public(name).hex(), "vkey": vkey(name)}
            for name, seed in SEEDS.items()
        },
        "origin": origin(),
        "checkpoints": [{"size": size, "note": head(size)} for size in (1, 5, 8)],
        "inclusion": [
            {"seq": seq, "size": size, "proof": proof(seq, size)}
            for seq, size in ((1, 1), (3, 5), (3, 8), (8, 8))
        ],
        "consistency": [
            {"old": old, "size": size, "hashes": [b64(one) for one in subproof(old, tree[:size])]}
            for old, size in ((1, 5), (5, 8), (4, 8), (8, 8))
        ],
        "must_reject": rejected(),
    }
