"""A store with very many calls in it, recorded through the store's own verb, for lists to page
through: one busy tenant, eight agents, twenty tools, one refusal in sixteen, a rule in shadow
that is about every call and would decide few otherwise, and a few calls of an agent that is rare
and long ago.
"""

from __future__ import annotations

from typing import Any

import storage
from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.receipt import blank_receipt
from storage.records import CallFactsRow, Entry

TENANT = "acme"
#: Of an agent nobody else is, at the very beginning.
RARE_CALLS = 3
_BATCH = 500
_ARGUMENTS = '{"note":"' + "x" * 280 + '"}'
#: As long as those of a real call are.
_FACTS = (
    '{"method":"POST","source_ip":"127.0.0.1","declared":true,"mutates":true,"risk":"medium",'
    '"labels":["reads-private"],"returns":"unknown","team":"platform","environment":"production",'
    '"agent_risk":"medium","run":{"trust":"untrusted_external","labels":["seen"],"calls":12,'
    '"started_us":1795962000000000},"path":"/shop/orders/7/items","query":["page","size"],'
    '"code":"policy_allow","reason":"shop/reads","matches":[["shop/reads","allow","enforce",null],'
    '["trial/all","%s","shadow",null]],"would_be":"%s"}'
)
#: One call in so many would be decided otherwise.
_DIFFERS_EVERY = 499


async def fill(url: str, calls: int, clock: Clock | None = None) -> None:
    """Records so many calls of the tenant, most with their outcome."""
    clock = clock or Clock()
    store = await storage.open_store(url, now_us=clock.now_us, node_id="filling")
    try:
        for start in range(0, calls, _BATCH):
            entries: list[Entry] = []
            for number in range(start, min(start + _BATCH, calls)):
                entries += _entries(number, clock)
            answers: list[Any] = await store.record(entries, seal)
            assert all(type(one).__name__ == "Recorded" for one in answers), answers[:3]
            await store.after_commit()
    finally:
        await store.close()


def _entries(number: int, clock: Clock) -> list[Entry]:
    agent = "rare" if number < RARE_CALLS else f"agent-{number % 8}"
    is_refusal, call_id = number % 16 == 5, clock.new_id()
    begun = blank_receipt(
        TENANT, "refusal" if is_refusal else "intent", event_id=call_id, call_id=call_id,
        ts_us=clock.now_us(), agent_id=agent, outcome="policy_deny" if is_refusal else None,
        http_status=403 if is_refusal else None,
    )._replace(
        upstream="shop", tool=f"shop/tool-{number % 20}", action="POST", source_trust="unknown",
        decision="deny" if is_refusal else "allow", mode="enforce", rule_id="shop/reads",
        rule_hash="ab" * 32, policy_revision="cd" * 16, request_sha256="ef" * 32,
        run_id=f"run-{number // 1000}",
    )  # fmt: skip
    would_be = "deny" if is_refusal or number % _DIFFERS_EVERY == 7 else "allow"
    facts = CallFactsRow(TENANT, 0, "00" * 32, _ARGUMENTS, _FACTS % (would_be, would_be))
    if is_refusal:
        return [Entry(begun, facts)]
    ended = blank_receipt(
        TENANT, "outcome", event_id=clock.new_id(), call_id=call_id, ts_us=clock.now_us(),
        agent_id=agent, outcome="completed", http_status=200,
    )  # fmt: skip
    return [Entry(begun, facts), Entry(ended)]
