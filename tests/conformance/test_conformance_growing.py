"""A chain is verified while others go on recording onto it."""

from __future__ import annotations

from conformance_setup import intent

from sidecar.ledger.chain import seal
from sidecar.ledger.stored_chain import verify_chain
from storage import SqlStore
from storage.records import Entry, HeadRow


def begun(call_id: str) -> Entry:
    entry = intent(call_id)
    entry.facts = None
    return entry


async def test_a_chain_that_grows_while_it_is_verified_holds(store: SqlStore) -> None:
    """`store erase`, `store prune`: other nodes of the server go on recording meanwhile."""
    await store.record([begun("c1"), begun("c2")], seal)
    asked, grew = store.head, []

    async def head(tenant_id: str) -> HeadRow:
        found = await asked(tenant_id)
        if not grew:
            grew.append(await store.record([begun("c3")], seal))
        return found

    store.head = head  # type: ignore[method-assign]
    report = await verify_chain(store, "acme")
    assert report.fault is None
    assert report.last_seq >= 2
