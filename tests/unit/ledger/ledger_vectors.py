"""The published vectors, v1.json: computed by the standard library, not by the product."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Any

from ledger_setup import START_US, reference_canonical, reference_root

from storage.records import ReceiptRow

KEYS = ReceiptRow._fields[:-1] + ("v", "prev_receipt_hash")

Body = dict[str, Any]


def id_of(number: int) -> str:
    return f"019b7d2e{number:04x}7000800000000000{number:04x}"


_JUDGED = {
    "agent_id": "deploy-bot",
    "upstream": "github",
    "source_trust": "trusted_internal_unsigned",
    "mode": "enforce",
    "policy_revision": "5d41402abc4b2a76b9719d911017c592",
}

#: name, what the body holds beside null and its place in the chain.
RECEIPTS: list[tuple[str, Body]] = [
    (
        "an intent: allowed by a rule",
        {
            **_JUDGED,
            "kind": "intent",
            "event_id": id_of(1),
            "call_id": id_of(1),
            "ts_us": START_US,
            "tool": "github/create_issue",
            "action": "POST",
            "decision": "allow",
            "rule_id": "github/issues",
            "rule_hash": "7d793037a0760186574b0282f2f435e7",
            "request_sha256": sha256(b"request").hexdigest(),
            "args_commitment": sha256(b"arguments").hexdigest(),
        },
    ),
    (
        "its outcome: only what the intent does not say",
        {
            "kind": "outcome",
            "event_id": id_of(2),
            "call_id": id_of(1),
            "ts_us": START_US + 41_873,
            "agent_id": "deploy-bot",
            "outcome": "completed",
            "http_status": 201,
        },
    ),
    (
        "a refusal: text beyond ASCII and beyond U+FFFF, not normalised (é twice, in two forms)",
        {
            **_JUDGED,
            "kind": "refusal",
            "event_id": id_of(3),
            "call_id": id_of(3),
            "ts_us": START_US + 90_000,
            "user_id": "zoé / zoe\u0301 / 東京 / \U0001f680 / \uffff",
            "tool": "github/unknown",
            "action": "DELETE",
            "decision": "deny",
            "request_sha256": sha256(b"").hexdigest(),
            "args_commitment": sha256(b"{}").hexdigest(),
            "outcome": "default_deny",
            "http_status": 403,
        },
    ),
    (
        "a refusal: every kind of escape, and none where none is due; the same microsecond",
        {
            **_JUDGED,
            "kind": "refusal",
            "event_id": id_of(4),
            "call_id": id_of(4),
            "ts_us": START_US + 90_000,
            "run_id": 'quote " backslash \\ slash / \b\f\n\r\t \x00\x01\x1f \x7f \u2028\u2029 <&>',
            "trace_id": "",
            "action": "POST",
            "decision": "deny",
            "outcome": "invalid_json",
            "http_status": 400,
        },
    ),
    (
        "an intent under observe: a deny that went ahead; the greatest integer",
        {
            **_JUDGED,
            "kind": "intent",
            "event_id": id_of(5),
            "call_id": id_of(5),
            "ts_us": 2**53 - 1,
            "tool": "github/mcp:resources/read",
            "action": "resources/read",
            "decision": "deny",
            "mode": "observe",
            "request_sha256": sha256(b"five").hexdigest(),
            "args_commitment": sha256(b"{}").hexdigest(),
        },
    ),
    (
        "a recovery: nobody knows how the call ended",
        {
            "kind": "recovery",
            "event_id": id_of(6),
            "call_id": id_of(5),
            "ts_us": 2**53 - 1,
            "outcome": "unknown",
        },
    ),
    (
        "a control event, with no call",
        {"kind": "control", "event_id": id_of(7), "ts_us": 2**53 - 1, "approver": "ops"},
    ),
    (
        "an approval",
        {
            "kind": "approval",
            "event_id": id_of(8),
            "call_id": id_of(8),
            "ts_us": 2**53 - 1,
            "approval_id": id_of(9),
            "approver": "alice",
            "action_hash": "6e729c788f908c95e564d246353ceeee0895630175d19ee34b06fdec32f2cc60",
            "resource": "acme/web",
        },
    ),
]

SALT = "000102030405060708090a0b0c0d0e0f"
#: name, the arguments as JSON text, their canonical text.
ARGUMENTS: list[tuple[str, str, str]] = [
    ("empty", "{}", "{}"),
    (
        "keys are sorted at every depth",
        '{"b":{"d":1,"c":2},"a":[3,1]}',
        '{"a":[3,1],"b":{"c":2,"d":1}}',
    ),
    (
        "keys are sorted by code point",
        '{"\\ud83d\\ude80":1,"\\uffff":2}',
        '{"\uffff":2,"\U0001f680":1}',
    ),
    ("strings are not normalised", '{"a":"\\u00e9 e\\u0301"}', '{"a":"é e\u0301"}'),
    (
        "integers and floats stay apart",
        '{"a":1,"b":1.0,"c":-0.0,"d":1e2}',
        '{"a":1,"b":1.0,"c":-0.0,"d":100.0}',
    ),
    (
        "small floats",
        '{"a":0.00001,"b":0.000001,"c":1e-7}',
        '{"a":0.00001,"b":1e-6,"c":1e-7}',
    ),
    (
        "large floats",
        '{"a":1e15,"b":1e16,"c":1e21}',
        '{"a":1000000000000000.0,"b":1e+16,"c":1e+21}',
    ),
    ("the fewest digits", '{"a":0.10000000000000001}', '{"a":0.1}'),
    (
        "the greatest integers",
        '{"a":9007199254740991,"b":-9007199254740991}',
        '{"a":9007199254740991,"b":-9007199254740991}',
    ),
    ("null is kept", '{"a":null,"b":true}', '{"a":null,"b":true}'),
]


def bodies() -> list[Body]:
    """The bodies, linked."""
    found: list[Body] = []
    for seq, (_, values) in enumerate(RECEIPTS, 1):
        body: Body = dict.fromkeys(KEYS)
        body |= {"v": 1, "tenant_id": "acme", "seq": seq, **values}
        body["prev_receipt_hash"] = hash_of(found[-1]) if found else ""
        found.append(body)
    return found


def hash_of(body: Body) -> str:
    return sha256(reference_canonical(body)).hexdigest()


def line(body: Body) -> bytes:
    return reference_canonical({**body, "receipt_hash": hash_of(body)}) + b"\n"


def whole() -> list[bytes]:
    return [line(body) for body in bodies()]


def vectors() -> dict[str, Any]:
    """The content of v1.json."""
    found = bodies()
    receipts = []
    for seq, body in enumerate(found, 1):
        canonical = reference_canonical(body)
        leaves = [reference_canonical(b) for b in found[:seq]]
        receipts.append(
            {
                "name": RECEIPTS[seq - 1][0],
                "body": body,
                "canonical": canonical.decode(),
                "receipt_hash": sha256(canonical).hexdigest(),
                "leaf_hash": sha256(b"\x00" + canonical).hexdigest(),
                "frontier": frontier_of(leaves),
                "root": reference_root(leaves).hex(),
            }
        )
    arguments = [
        {
            "name": name,
            "json": text,
            "canonical": canonical,
            "salt": SALT,
            "args_commitment": hmac.digest(bytes.fromhex(SALT), canonical.encode(), "sha256").hex(),
        }
        for name, text, canonical in ARGUMENTS
    ]
    return {"format": "receipt body v1", "receipts": receipts, "arguments": arguments}


def frontier_of(leaves: list[bytes]) -> str:
    """The roots of the perfect subtrees, largest first, by the definition."""
    roots, at = "", 0
    for bit in reversed(range(len(leaves).bit_length())):
        size = 1 << bit
        if len(leaves) & size:
            roots += reference_root(leaves[at : at + size]).hex()
            at += size
    return roots
