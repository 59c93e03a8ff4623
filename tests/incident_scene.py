"""An incident in a real store: refused calls, alerts raised for them, and what people did."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sidecar.clock import Clock
from sidecar.ledger.chain import seal
from sidecar.ledger.checkpointer import Checkpointer
from sidecar.ledger.commitment import NONCE_BYTES, salt_beside
from sidecar.ledger.fence import Fence
from sidecar.ledger.receipt import blank_receipt
from sidecar.signed_note import SigningKey
from sidecar.soc.correlation import Noticed, correlate, look_back_us
from sidecar.soc.incident_entries import Stamp, raised_entry
from sidecar.soc.incidents import Incidents
from sidecar.soc.levels import Level
from sidecar.soc.model import Evidence, Hit, Severity
from storage import SqlStore
from storage.records import Answer, CallFactsRow, Entry, Recorded
from storage.watch_rows import AlertRow

HOUR_US = 3_600_000_000


def signing_key() -> SigningKey:
    """A fresh one."""
    made = Ed25519PrivateKey.generate()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SigningKey(pem.decode())


class Queue:
    """Commits each entry by itself."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def submit(self, entry: Entry) -> Answer:
        (answer,) = await self._store.record([entry], seal)
        return answer


@dataclass
class Scene:
    """A store, and those who write to it."""

    store: SqlStore
    clock: Clock
    incidents: Incidents
    key: SigningKey
    fence: Fence

    @classmethod
    def on(cls, store: SqlStore) -> Scene:
        clock, fence = Clock(), Fence()
        return cls(store, clock, Incidents(store, Queue(store), clock, fence), signing_key(), fence)

    async def refuse(self, call_id: str, *, tenant: str = "acme", agent: str = "coder") -> Evidence:
        """A refused call; its receipt as an alert names it."""
        row = blank_receipt(
            tenant, "refusal", event_id=self.clock.new_id(), call_id=call_id,
            ts_us=self.clock.now_us(), agent_id=agent,
        )._replace(decision="deny", tool="mail/send", upstream="mail")  # fmt: skip
        said = b'{"risk":"low"}'
        salt = salt_beside(self.clock.random_bytes(NONCE_BYTES), said)
        facts = CallFactsRow(tenant, 0, salt.hex(), None, said.decode())
        answer = await Queue(self.store).submit(Entry(row, facts))
        assert isinstance(answer, Recorded)
        return Evidence(answer.seq, answer.receipt_hash, call_id, answer.ts_us)

    def hit(
        self,
        *evidence: Evidence,
        detection: str = "deny-storm",
        severity: Severity = Severity.HIGH,
        tenant: str = "acme",
        agent: str = "coder",
    ) -> Hit:
        """A hit that these receipts make."""
        return Hit(
            detection, severity, tenant, (agent,), agent, "r1", "mail/send", "mail",
            f"{agent}: {len(evidence)} refusals", evidence, HOUR_US,
        )  # fmt: skip

    async def notice(self, *hits: Hit, tenant: str = "acme") -> Noticed:
        """What the watcher does with hits."""
        quiet = await self.store.alerts_quiet(tenant, look_back_us(hits), 100)
        standing = await self.store.open_incidents(tenant, 100)
        at_us = self.clock.now_us()
        noticed = correlate(tenant, hits, quiet, standing, Level.NOTIFY, at_us)
        if not noticed.has_news:
            assert await self.store.put_rows(tenant, [*noticed.alerts, *noticed.incidents])
            return noticed
        stamp = Stamp(self.clock.new_id(), self.clock.random_bytes(NONCE_BYTES), at_us)
        answer = await Queue(self.store).submit(raised_entry(tenant, noticed, stamp))
        assert isinstance(answer, Recorded), answer
        return noticed

    async def trouble(
        self, tenant: str = "acme", agent: str = "coder", calls_of: str = "acme"
    ) -> str:
        """An incident of two alerts, the first of which later hits joined; its id."""
        calls = [await self.refuse(f"{calls_of}-{n}", tenant=tenant, agent=agent) for n in range(5)]
        noticed = await self.notice(self.hit(*calls[:3], tenant=tenant, agent=agent), tenant=tenant)
        (incident,) = noticed.opened_incidents
        late = self.hit(*calls[2:4], tenant=tenant, agent=agent)
        assert not (await self.notice(late, tenant=tenant)).has_news
        other = self.hit(
            calls[4], detection="runaway", severity=Severity.LOW, tenant=tenant, agent=agent
        )
        again = await self.notice(other, tenant=tenant)
        assert not again.opened_incidents and len(again.raised) == 1
        return incident.incident_id

    async def alerts(self, incident_id: str, tenant: str = "acme") -> list[AlertRow]:
        """Those of an incident."""
        return await self.store.alerts_of_incident(tenant, incident_id, "", 99)

    async def sign(self) -> None:
        """A checkpoint of all that is recorded."""
        keeper = Checkpointer(
            self.store, self.clock, self.fence, self.key, every_s=10.0, receipts=1
        )
        await keeper.begin()
        await keeper.turn(is_last=True)
