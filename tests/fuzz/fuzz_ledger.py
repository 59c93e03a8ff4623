"""What was sent, what arrived and what is on record must be the same, call by call.

Knows: the strict reading of what was sent, how a receipt commits to a body and a path.
Must not know: which calls are allowed, what answers say.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from fuzz_check import Told
from fuzz_client import Shot
from fuzz_forms import read_form
from fuzz_reader import read_all
from fuzz_upstream import Arrival

import storage
from storage.records import CallFactsRow, ReceiptRow

Key = tuple[str, str, str, bytes]


def sent_keys(shots: list[Shot]) -> Counter[Key]:
    """What strict reading finds in all that was sent, as it may arrive at the upstreams."""
    keys: Counter[Key] = Counter()
    for shot in shots:
        for message in read_all(shot.raw)[0]:
            path, mark, query = message.target.partition("?")
            first, slash, rest = path[1:].partition("/")
            name = unquote(first)
            target = "/mcp" if name == "tools" else slash + rest + mark + query
            if not target.startswith("/"):
                target = "/" + target
            keys[name, message.method, target, message.body] += 1
    return keys


def check_sent(sent: Counter[Key], arrivals: list[Arrival]) -> list[str]:
    """Everything that arrived must have been sent so, byte for byte, and not more often."""
    left = Counter(sent)
    problems = []
    for arrival in arrivals:
        message = arrival.message
        target = message.target[:-1] if message.target.endswith("?") else message.target
        key = (arrival.upstream, message.method, target, message.body)
        empty = (*key[:2], target + "?", message.body)
        chosen = key if left[key] > 0 else empty
        if left[chosen] <= 0:
            problems.append(f"nobody sent {key[:3]} {message.body[:200]!r} {arrival.mark}")
        left[chosen] -= 1
    return problems


@dataclass
class Recorded:
    """An intent of the store, with what it commits to."""

    call_id: str
    upstream: str
    digest: str
    salt: bytes
    mark: str | None
    path: str | None
    tool: str
    action: str
    arguments: dict[str, Any]
    facts: dict[str, Any]


class Ledger:
    """Reads what is new in the store, batch by batch."""

    def __init__(self, url: str) -> None:
        self._url, self._seq = url, 0
        self.unmatched: list[Recorded] = []
        self.intents: set[str] = set()
        self.refusals: set[str] = set()
        self.outcomes: dict[str, str] = {}
        self.receipts = 0

    async def read_new(self) -> list[str]:
        """Takes in all receipts since the last time."""
        problems = []
        reader = await storage.open_reader(self._url)
        try:
            while page := await reader.receipts("default", self._seq, 1000):
                for row in page:
                    if row.seq != self._seq + 1:
                        problems.append(f"gap in the receipts: {row.seq} after {self._seq}")
                    self._seq, call_id = row.seq, row.call_id or ""
                    self.receipts += 1
                    if row.kind == "outcome":
                        self.outcomes[call_id] = row.outcome or ""
                    elif row.kind == "refusal":
                        self.refusals.add(call_id)
                    elif row.kind == "intent":
                        self.intents.add(call_id)
                        facts = await reader.call_facts("default", row.seq)
                        if facts is None:
                            problems.append(f"no facts for {call_id}")
                            continue
                        self.unmatched.append(_recorded(row, facts))
        finally:
            await reader.close()
        return problems

    def match(self, arrivals: list[Arrival]) -> list[str]:
        """Takes for each arrival one intent that commits to exactly its body and path."""
        problems = []
        for arrival in arrivals:
            found = next((i for i in self.unmatched if is_of(i, arrival)), None)
            if found is None:
                message = arrival.message
                problems.append(
                    f"at the upstream without an intent: {arrival.mark} {arrival.upstream} "
                    f"{message.method} {message.target} {message.body[:200]!r}"
                )
            else:
                self.unmatched.remove(found)
        return problems

    def check_told(self, told: Told) -> list[str]:
        """Every answer a call id was given with is on record, as what it was."""
        return [f"answered, no intent: {i}" for i in told.forwarded - self.intents]

    def check_end(self) -> list[str]:
        """After the last batch: a call said to be completed did arrive; every intent has ended."""
        problems = [
            f"completed, never arrived: {intent.call_id}"
            for intent in self.unmatched
            if self.outcomes.get(intent.call_id) == "completed"
        ]
        open_ids = self.intents - self.outcomes.keys()
        return problems + ([f"{len(open_ids)} intents without an outcome"] if open_ids else [])


def _recorded(row: ReceiptRow, beside: CallFactsRow) -> Recorded:
    arguments = json.loads(beside.arguments or "{}")
    facts = json.loads(beside.facts)
    return Recorded(
        row.call_id or "", row.upstream or "", row.request_sha256 or "", bytes.fromhex(beside.salt),
        _text(arguments.get("mark")), facts.get("path"), row.tool or "", row.action or "",
        arguments, facts,
    )  # fmt: skip


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def is_of(intent: Recorded, arrival: Arrival) -> bool:
    """Whether an intent commits to the body and path of an arrival, and names its mark."""
    path = unquote(arrival.message.target.partition("?")[0])
    if arrival.upstream == "up" and intent.path is not None and intent.path != path:
        return False
    return commits_to(intent, arrival) and (intent.mark is None or _mark_in(arrival, intent.mark))


def commits_to(intent: Recorded, arrival: Arrival) -> bool:
    """Whether it is an intent for that upstream and that body."""
    if intent.upstream != arrival.upstream:
        return False
    body = arrival.message.body
    return hmac.new(intent.salt, body, hashlib.sha256).hexdigest() == intent.digest


def _mark_in(arrival: Arrival, mark: str) -> bool:
    """Whether the mark on record stands in the request too: in its body, or in its query."""
    message = arrival.message
    # A body that is no object of objects names none; the query may.
    with contextlib.suppress(ValueError, AttributeError):
        if message.body.lstrip()[:1] == b"{":
            document = json.loads(message.body)
            arguments = document.get("params", {}).get("arguments", document)
            if arguments.get("mark") == mark:
                return True
    if message.body[:2] == b"--":
        fields, _ = read_form(message.header("content-type") or "", message.body)
        if ("mark", mark) in fields:
            return True
    texts = f"{message.target.partition('?')[2]}&{message.body.decode('latin-1')}"
    return ("mark", mark) in parse_qsl(texts, keep_blank_values=True)
