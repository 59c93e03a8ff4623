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

SEEDS = {"log": b"\x01" * 32, "stranger": b"\x02" * 32, "next": b"\x03" * 32}


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


def changed_key(old: str, new: str, *signers: str) -> str:
    """What the `resource` of a receipt says that tells of another key."""
    text = f"aegis-sidecar/key-rotation/v1\n{origin()}\n{vkey(old)}\n{vkey(new)}\n"
    lines = [note(text, by=one, name=origin()).split("\n\n")[1] for one in signers or (old, new)]
    return f"{text}\n{''.join(lines)}"


def with_changes(*changes: str) -> list[dict[str, Any]]:
    """Two receipts, and one more for each change of the key, a second of a call after each."""
    found = bodies()[:2]
    for change in changes:
        told = {**bodies()[6], "ts_us": 2**53 - 1, "action": "receipts.rotate_key"}
        found += [told | {"resource": change}, {**bodies()[1], "ts_us": 2**53 - 1}]
    prev = ""
    for seq, body in enumerate(found, 1):
        body |= {"seq": seq, "prev_receipt_hash": prev, "event_id": f"{seq:032x}"}
        prev = hash_of(body)
    return found


def key_changes() -> list[dict[str, Any]]:
    """Receipts of three chains that tell of other keys, and what heads of them are taken for by
    whoever trusts one key: `anchored` is up to where, `kind` what is wrong."""
    chains = {
        "handed over": [changed_key("log", "next")],
        "one signature": [changed_key("log", "next", "log")],
        "by a replaced key": [changed_key("log", "next"), changed_key("log", "stranger")],
        "and back": [changed_key("log", "next"), changed_key("next", "log")],
    }
    cases = [
        ("handed over", "log", [(2, "log"), (3, "next"), (4, "next")], {"anchored": 4}),
        ("handed over", "next", [(2, "log"), (4, "next")], {"anchored": 4}),
        ("handed over", "log", [(2, "log"), (3, "log")], {"kind": "replaced_key"}),
        ("handed over", "stranger", [(2, "log")], {"kind": "unknown_key"}),
        ("one signature", "log", [(2, "log")], {"kind": "bad_rotation"}),
        ("by a replaced key", "next", [(2, "log"), (6, "next")], {"anchored": 6}),
        ("by a replaced key", "next", [(6, "stranger")], {"kind": "unknown_key"}),
        ("by a replaced key", "log", [(6, "stranger")], {"kind": "unknown_key"}),
        ("and back", "next", [(2, "log"), (4, "next"), (6, "log")], {"anchored": 6}),
        ("and back", "log", [(6, "next")], {"kind": "replaced_key"}),
    ]
    found = []
    for name, trusted, heads, verdict in cases:
        told = with_changes(*chains[name])
        tree = [sha256(b"\x00" + reference_canonical(body)).digest() for body in told]
        notes = [note(text_of(size, mth(tree[:size])), by=by) for size, by in heads]
        lines = [{**body, "receipt_hash": hash_of(body)} for body in told]
        case = {"name": name, "trusted": trusted, **verdict, "notes": notes, "receipts": lines}
        found.append(case)
    return found


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
        "key_changes": key_changes(),
    }
