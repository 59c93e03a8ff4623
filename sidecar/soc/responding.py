"""What a detection asks for is done: contained for a while, within bounds, once for an alert.

Knows, as rules:
- **One alert, one response.** Its id is made of the alert's, so that whoever tries again finds it;
  one that people have undone is not begun anew, nor the same for what happened before (let_go).
- **It always ends**: after `AUTOMATIC_US_MAX` at the latest.
- **It concerns the agent of the hit and nobody else.** Whoever can make a detection fire must not
  be able to keep others from working: a tool or a destination is blocked, and approval is forced,
  for the hit's agent only, and nothing is done where what several did is counted together. An
  upstream is never blocked and nobody is revoked by itself.
- **It does not feed on itself**: who tries again what is contained is refused again and again, and
  is not contained further for that.
- **It is bounded**: so many at once and so many an hour of a tenant. A noise that fires for many
  agents stops at that; people see the rest as recommendations.
What is not done becomes a recommendation, with why. Must not know: how a containment is recorded,
how hits come about, who is told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import orjson

from sidecar.policy.contained import CONTAINED, Action, hosts_in
from sidecar.soc.let_go import DETECTION, let_go_since
from sidecar.soc.let_go import Reads as ReadsEndings
from sidecar.soc.model import Hit
from storage.errors import StoreError
from storage.records import AFTER_ALL_IDS, CallFactsRow, ReceiptRow, RunHead
from storage.watch_rows import AlertRow, ContainmentRow, IncidentRow

if TYPE_CHECKING:
    from sidecar.soc.watch_counts import WatchCounts

_log = logging.getLogger("aegis.soc")

#: Active containments of a tenant that no person began, and how many begin in an hour.
AUTOMATIC_MAX: Final = 20
AUTOMATIC_PER_HOUR_MAX: Final = 30
#: None of them lasts longer: 24 h.
AUTOMATIC_US_MAX: Final = 24 * 3_600_000_000
HOUR_US: Final = 3_600_000_000
#: So many of the newest containments are looked at to count those of an hour.
LOOKED_AT_MAX: Final = 200
REASON_CHARS_MAX: Final = 1024

#: What calls are refused with that are contained already.
_REFUSALS: Final = frozenset({CONTAINED, "agent_frozen", "agent_quarantined"})
_TIME_DIGITS: Final = 12
#: What is done to the agent itself, or to all its calls.
_OF_AGENT: Final = frozenset({Action.FREEZE_AGENT, Action.QUARANTINE_AGENT, Action.FORCE_APPROVAL})


class Raised(Protocol):
    """A hit that raised an alert, and the incident that belongs to, if any."""

    @property
    def hit(self) -> Hit:
        """What was found."""
        ...

    @property
    def alert(self) -> AlertRow:
        """What it raised."""
        ...

    @property
    def incident(self) -> IncidentRow | None:
        """What that belongs to."""
        ...


class Responded(NamedTuple):
    """What became of what a detection asked for: it `is_done` by a containment, or `text` says why
    not, and what a person may do."""

    is_done: bool
    text: str
    containment_id: str = ""


class Reads(ReadsEndings, Protocol):
    """What is needed of a store."""

    async def clock_us(self) -> int:
        """Now, by the server's clock where there is one."""
        ...

    async def containment(self, tenant_id: str, containment_id: str) -> ContainmentRow | None:
        """One containment, in any state."""
        ...

    async def active_containments(self, tenant_id: str) -> list[ContainmentRow]:
        """All that are active."""
        ...

    async def run_head(self, tenant_id: str, run_key: str) -> RunHead:
        """A run; version 0 of which nothing is kept."""
        ...

    async def receipts(self, tenant_id: str, after_seq: int, limit: int) -> list[ReceiptRow]:
        """Receipts with seq > after_seq, oldest first."""
        ...

    async def call_facts(self, tenant_id: str, seq: int) -> CallFactsRow | None:
        """What stands beside a receipt."""
        ...


class Begins(Protocol):
    """Who contains."""

    async def begin(
        self,
        tenant: str,
        action: str,
        subject: str,
        agent: str,
        *,
        containment_id: str,
        actor: str,
        for_us: int,
        reason: str,
        incident_id: str,
    ) -> ContainmentRow | str:
        """The containment, or why there is none."""
        ...


class Tells(Protocol):
    """Who writes down what became of it, on the alert or its incident."""

    async def __call__(self, raised: Raised, responded: Responded, actor: str) -> None:
        """Once for each alert."""
        ...


class Responding:
    """For all tenants of a sidecar; asked by whoever watches a tenant, and by nobody else."""

    def __init__(self, store: Reads, begins: Begins, tells: Tells, counts: WatchCounts) -> None:
        self._store = store
        self._begins = begins
        self._tells = tells
        self._counts = counts

    async def __call__(self, raised: Sequence[Raised]) -> None:
        """Responds to alerts that were just raised and are durable. A failure of one never keeps
        the others from it."""
        for one in raised:
            if one.hit.respond is None:
                continue
            responded = await self.respond(one)
            if responded is None:
                continue
            self._counts.responses["done" if responded.is_done else "recommended"] += 1
            _log.warning(
                "a detection was responded to" if responded.is_done else "a response is up to you",
                extra={"code": one.hit.detection, "detail": responded.text},
            )
            await self._tells(one, responded, f"{DETECTION}{one.hit.detection}")

    async def respond(self, raised: Raised) -> Responded | None:
        """What became of it; None where it was responded to before."""
        hit = raised.hit
        if hit.respond is None:
            return None
        action = hit.respond.action
        containment_id = containment_id_of(raised.alert, action)
        try:
            if await self._store.containment(hit.tenant, containment_id) is not None:
                return None
            about = await self._about(hit)
            if isinstance(about, str):
                return _recommended(hit, about)
            why = (
                await self._echo(hit)
                or await let_go_since(self._store, hit, action, *about)
                or await self._over_bounds(hit.tenant)
            )
            if why:
                return _recommended(hit, why)
        except StoreError as error:
            return _recommended(hit, f"the store says {error.code}")
        subject, agent = about
        found = await self._begins.begin(
            hit.tenant, action, subject, agent,
            containment_id=containment_id,
            actor=f"{DETECTION}{hit.detection}",
            for_us=min(hit.respond.for_us, AUTOMATIC_US_MAX),
            reason=hit.reason[:REASON_CHARS_MAX],
            incident_id=raised.alert.incident_id,
        )  # fmt: skip
        if isinstance(found, str):
            return _recommended(hit, found)
        return Responded(
            True, f"{found.action} {found.subject}: containment {containment_id}", containment_id
        )

    # -- what about, and may it ----------------------------------------------------------------

    async def _about(self, hit: Hit) -> tuple[str, str] | str:
        """Subject and agent of the containment; or why a person has to see to it."""
        action = hit.respond.action if hit.respond is not None else ""
        if not hit.agent:
            return "no agent did this"
        if hit.respond is not None and hit.respond.of_several:
            return "several agents are counted together, and who came last may have done least"
        if action in _OF_AGENT:
            return hit.agent, ""
        if action == Action.BLOCK_RUN:
            return await self._run_of(hit), ""
        if action == Action.BLOCK_DESTINATION:
            return await self._destination_of(hit)
        if action == Action.BLOCK_TOOL:
            return (hit.tool, hit.agent) if hit.tool else "no tool was called"
        return f"{action} is never done by itself: it would stop others too"

    async def _run_of(self, hit: Hit) -> str:
        """The run by the id that the record names, if that is one the store keeps apart; what
        callers only say of themselves divides nothing, and then it is the agent's own run."""
        if hit.run and await self._was_of(hit):
            head = await self._store.run_head(hit.tenant, f"{hit.agent}\n{hit.run}")
            if head.version:
                return f"{hit.agent}/{hit.run}"
        return hit.agent

    async def _was_of(self, hit: Hit) -> bool:
        """Whether the call was of the run it names, as far as is on record: a caller may name one
        of his runs where nobody trusts him to."""
        beside = await self._store.call_facts(hit.tenant, hit.seq)
        try:
            facts = orjson.loads(beside.facts) if beside is not None else {}
        except ValueError:
            return True
        is_known = isinstance(facts, dict) and "run" in facts
        return not is_known or facts.get("of_run", "") == hit.run

    async def _destination_of(self, hit: Hit) -> tuple[str, str] | str:
        """The one host among the arguments of the call that completed the hit."""
        beside = await self._store.call_facts(hit.tenant, hit.seq)
        try:
            args = orjson.loads(beside.arguments or "{}") if beside is not None else {}
        except ValueError:
            args = {}
        hosts = hosts_in(args) if isinstance(args, dict) else []
        if len(hosts) == 1:
            return hosts[0], hit.agent
        if not hosts:
            return "its call names no destination on record"
        return f"its call names several destinations: {', '.join(hosts[:5])}"

    async def _echo(self, hit: Hit) -> str:
        """Why nothing is done about what another containment's refusals set off; "" otherwise.
        Half of what the hit names has to be such, and not the last alone: whoever is kept from one
        thing chooses when to ask for it once more."""
        if not await self._is_refusal(hit.tenant, hit.seq):
            return ""
        refusals = [await self._is_refusal(hit.tenant, one.seq) for one in hit.evidence]
        if 2 * sum(refusals) < len(refusals):
            return ""
        return "a containment's own refusals set it off"

    async def _is_refusal(self, tenant: str, seq: int) -> bool:
        """Whether a receipt tells of a call that a containment refused."""
        rows = await self._store.receipts(tenant, seq - 1, 1)
        return bool(rows) and rows[0].seq == seq and rows[0].outcome in _REFUSALS

    async def _over_bounds(self, tenant: str) -> str:
        """Why no more may be done by itself now; "" if it may."""
        active = _automatic(await self._store.active_containments(tenant))
        if len(active) >= AUTOMATIC_MAX:
            return f"{AUTOMATIC_MAX} automatic containments are active already"
        since_us = await self._store.clock_us() - HOUR_US
        newest = await self._store.containments_before(tenant, AFTER_ALL_IDS, LOOKED_AT_MAX)
        recent = _automatic(row for row in newest if row.started_us > since_us)
        is_cut = len(newest) == LOOKED_AT_MAX and newest[-1].started_us > since_us
        if len(recent) >= AUTOMATIC_PER_HOUR_MAX or is_cut:
            return f"{AUTOMATIC_PER_HOUR_MAX} automatic containments began within an hour"
        return ""


def containment_id_of(alert: AlertRow, action: str) -> str:
    """The id of what an alert is responded to with: time first, then a hash of what it is for."""
    name = orjson.dumps(["respond", alert.tenant_id, alert.alert_id, action])
    digest = sha256(name).hexdigest()
    began = f"{alert.first_us // 1000:0{_TIME_DIGITS}x}"
    return f"{began}{digest[: 32 - _TIME_DIGITS]}"


def _automatic(rows: Iterable[ContainmentRow]) -> list[ContainmentRow]:
    return [row for row in rows if row.actor.startswith(DETECTION)]


def _recommended(hit: Hit, why: str) -> Responded:
    response = hit.respond
    wanted = "" if response is None else f"{response.action} for {response.for_us // 1_000_000} s"
    return Responded(False, f"{wanted} was not done: {why}")
