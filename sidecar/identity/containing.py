"""Containments: begun, undone, ended by their time, each on record and counted at once.

Knows: that a containment is worked out from its tenant as it is known, and counts only while that
holds (two people who contain at once do not overshoot a bound); that it makes decisions in flight
stale, like a freeze; that what is done to an agent's standing goes by the moves of agents, and is
taken back only if nobody has changed the agent meanwhile; that a revocation is never taken back;
that times are the store's.
Must not know: HTTP, the command line, who may do what, detections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from sidecar.identity.agent_states import after
from sidecar.identity.changes import ChangeRefused, Planned, existing
from sidecar.identity.containment_plans import (
    MOVES,
    audited,
    moved,
    not_active,
    require_room,
    restored,
)
from sidecar.identity.containment_subjects import (
    ACTIVE,
    EXPIRED,
    FINAL_STATE,
    OF_STANDING,
    OF_TOOLS,
    UNDONE,
    Subject,
    action_of,
    before_of,
    read_subject,
    text_of,
)
from sidecar.identity.containment_telling import (
    Nobody,
    NotesContainments,
    TellsContainments,
    nowhere,
)
from sidecar.identity.containment_words import (
    Wanted,
    read_wanted,
    require_expiry,
    shown_containment,
)
from sidecar.ledger.run_keeper import CLOCK_SKEW_US
from sidecar.ledger.run_text import UnreadableRun, read_run
from sidecar.policy.contained import Action
from storage.errors import StoreError
from storage.standing import AuditRow
from storage.watch_rows import ContainmentRow

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.config.model import Config
    from sidecar.identity.changes import Changes
    from sidecar.identity.containment_remarks import KnownTools
    from sidecar.identity.registry import Registry, TenantView
    from storage.records import RunHead
    from storage.watch_rows import IncidentRow

#: Tokens an agent may have got while it was stopped, and still stand as before afterwards.
ROTATIONS_MAX: Final = 10
ROTATED: Final = "agent.rotate_token"
_NEWEST: Final = 2**62


class ReadsContainments(Protocol):
    """What is needed of a store."""

    async def clock_us(self) -> int:
        """Now, by the clock that says when a containment is over."""
        ...

    async def containment(self, tenant_id: str, containment_id: str) -> ContainmentRow | None:
        """One containment, in any state."""
        ...

    async def incident(self, tenant_id: str, incident_id: str) -> IncidentRow | None:
        """One incident."""
        ...

    async def audit_events(
        self, tenant_id: str, before_seq: int, limit: int, *, actor: str = "", action: str = "",
        subject: str = "",
    ) -> list[AuditRow]:  # fmt: skip
        """Changes of state, newest first."""
        ...

    async def run_head(self, tenant_id: str, run_key: str) -> RunHead:
        """A run, as the store keeps it."""
        ...


@dataclass(frozen=True, slots=True)
class Contains:
    """A containment as it stands after a change, and the receipt that tells of it; None where it
    stood so already. `agent_state` is how the agent stands whose standing it is about, "" of any
    other. `remark` is what is odd about it, "" if nothing is."""

    row: ContainmentRow
    seq: int | None
    agent_state: str = ""
    remark: str = ""


class Containing:
    """For the tenants of one sidecar's configuration."""

    def __init__(
        self,
        config: Config,
        changes: Changes,
        registry: Registry,
        store: ReadsContainments,
        clock: Clock,
        known: KnownTools,
    ) -> None:
        self._upstreams = config.upstreams
        self._known = known
        #: As `ledger.run_keeper` judges it: the last call is written down a tenth late at most.
        self._idle_us = int(config.runs.idle_s * 1.1e6)
        if not registry.is_alone:
            self._idle_us += CLOCK_SKEW_US
        self._changes = changes
        self._registry = registry
        self._store = store
        self._clock = clock
        #: Who is told when one begins and ends.
        self.tells: TellsContainments = Nobody()
        #: Who notes on an incident what people contain for it.
        self.notes: NotesContainments = nowhere

    @property
    def registry(self) -> Registry:
        """What is contained, as it is known here."""
        return self._registry

    async def contain(self, wanted: Wanted) -> Contains:
        """Begins one, and notes it on its incident. Raises ChangeRefused: unknown_tenant,
        unknown_agent, unknown_upstream, unknown_incident, bad_expiry, no_run, wrong_state,
        already_contained, too_many, and as `Changes.made` does."""
        done = await self._begun(wanted)
        missing = await self.notes(done.row) if wanted.incident_id else ""
        remarks = (await self._remark(wanted), missing)
        return replace(done, remark="; ".join(one for one in remarks if one))

    async def _begun(self, wanted: Wanted) -> Contains:
        require_expiry(wanted)
        action, subject = wanted.action, wanted.subject
        if action is Action.BLOCK_UPSTREAM and subject.what not in self._upstreams:
            raise ChangeRefused(
                "unknown_upstream",
                f"there is no upstream {subject.what!r}",
                f"There is {', '.join(self._upstreams)}.",
            )
        containment_id = wanted.containment_id or self._clock.new_id()
        at_us = await self._now_us()
        await self._require_incident(wanted)
        found = await self._found(wanted, at_us)
        await self._end_what_is_lifted(wanted, at_us)
        begun: list[ContainmentRow] = []

        def plan(view: TenantView) -> Planned:
            require_room(view, wanted)
            if subject.agent:
                existing(view, subject.agent)
            before, also = dict(found), None
            if action in OF_STANDING:
                before, also = moved(view, wanted, self._changes.now_us())
            row = ContainmentRow(
                wanted.tenant, containment_id, 1,
                FINAL_STATE if action is Action.REVOKE_AGENT else ACTIVE,
                action.value, text_of(action, subject), wanted.reason, wanted.actor,
                wanted.incident_id, json.dumps(before, sort_keys=True) if before else "",
                at_us, at_us + wanted.for_us if wanted.for_us else 0, at_us,
            )  # fmt: skip
            begun[:] = [row]
            told = self.tells.rows(row, wanted.actor, wanted.reason)
            return Planned(
                "containment.begin", None, shown_containment(row), row,
                told if also is None else (also, *told), epoch=view.epoch,
            )  # fmt: skip

        seq = await self._changes.made(
            wanted.tenant, audited(action, subject, containment_id), plan, wanted.actor,
            wanted.reason,
        )  # fmt: skip
        self.tells.recorded()
        return self._contains(begun[0], seq)

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
        """The same for whoever no person is behind, and who notes it himself: the containment, or
        the words of why not."""
        try:
            wanted = read_wanted(
                tenant, action, subject, agent, actor=actor, reason=reason,
                incident_id=incident_id,
            )._replace(for_us=for_us, containment_id=containment_id)  # fmt: skip
            return (await self._begun(wanted)).row
        except ChangeRefused as refused:
            return f"{refused.title} ({refused.code})"

    async def undo(
        self, tenant: str, containment_id: str, *, actor: str, reason: str = ""
    ) -> Contains:
        """Ends one; the agent it stopped stands as before, unless somebody has changed it since.
        Raises ChangeRefused: unknown_tenant, unknown_containment, wrong_state, and as
        `Changes.made` does."""
        row = await self._kept(tenant, containment_id)
        if row.state != ACTIVE:
            raise not_active(row)
        at_us = await self._now_us()
        ended = await self._ended(row, UNDONE, "containment.undo", at_us, actor, reason)
        if ended is None:  # somebody else ended it just now
            raise not_active(await self._kept(tenant, containment_id))
        return ended

    async def expire(self, row: ContainmentRow, actor: str) -> bool:
        """Ends one whose time has run out, on record; False where the store's clock says that it
        has not. One that has ended already is left as it is. Raises ChangeRefused."""
        at_us = await self._now_us()
        if not row.until_us or at_us < row.until_us:
            return False
        await self._ended(row, EXPIRED, "containment.expire", at_us, actor, "its time is over")
        return True

    # -- how it is made ----------------------------------------------------------------------

    async def _ended(
        self, row: ContainmentRow, state: str, verb: str, at_us: int, actor: str, reason: str
    ) -> Contains | None:
        """None if it is not active any more."""
        tenant, containment_id = row.tenant_id, row.containment_id
        rotated = await self._only_rotated(row)
        put: list[ContainmentRow] = []

        def plan(view: TenantView) -> Planned | None:
            now = next(
                (one for one in view.containments if one.containment_id == containment_id), None
            )
            if now is None:
                return None
            after_it = now._replace(version=now.version + 1, state=state, changed_at_us=at_us)
            put[:] = [after_it]
            stands_again = restored(view, now, self._changes.now_us(), rotated)
            told = self.tells.rows(after_it, actor, reason)
            return Planned(
                verb, shown_containment(now), shown_containment(after_it), after_it,
                told if stands_again is None else (stands_again, *told),
            )  # fmt: skip

        action = action_of(row)
        subject = Subject("", "") if action is None else read_subject(action, row.subject)
        name = f"containment:{containment_id}"
        if action is not None:
            name = audited(action, subject, containment_id)
        seq = await self._changes.made(tenant, name, plan, actor, reason)
        if seq is None:
            return None
        self.tells.recorded()
        return self._contains(put[0], seq)

    async def _only_rotated(self, row: ContainmentRow) -> int | None:
        """The agent's version if all that was done to it since is that its token was changed, as
        one does with an agent that was stopped; None otherwise."""
        view, version = self._registry.view(row.tenant_id), before_of(row).get("agent_version")
        agent = None if view is None else view.rows.get(row.subject)
        if agent is None or not isinstance(version, int):
            return None
        since = agent.version - version
        if not 0 < since <= ROTATIONS_MAX:
            return None
        try:
            events = await self._store.audit_events(
                row.tenant_id, _NEWEST, since, subject=f"agent:{row.subject}"
            )
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        is_all = len(events) == since and all(one.action == ROTATED for one in events)
        return agent.version if is_all else None

    async def _remark(self, wanted: Wanted) -> str:
        """What is odd about it; a store that cannot say keeps nothing from being contained."""
        tool = wanted.subject.what
        if wanted.action not in OF_TOOLS or not tool:
            return ""
        try:
            return await self._known.remark(wanted.tenant, tool)
        except StoreError as error:
            return f"whether there is a tool {tool} could not be looked up: {error}"

    async def _found(self, wanted: Wanted, at_us: int) -> Mapping[str, Any]:
        """What has to be known of a run that has no id: when it began. Raises ChangeRefused."""
        agent, run_id = wanted.subject
        if wanted.action is not Action.BLOCK_RUN or run_id:
            return {}
        try:
            kept = read_run((await self._store.run_head(wanted.tenant, agent)).state)
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        except UnreadableRun as error:
            raise ChangeRefused(
                "no_run", str(error), "`runs reset` ends a run that is unreadable."
            ) from error
        started_us = None if kept is None else kept.state.started_us
        if kept is None or started_us is None or at_us - kept.last_us > self._idle_us:
            raise ChangeRefused(
                "no_run",
                f"{wanted.tenant}/{agent} has no run now",
                "Freeze the agent, or name a run as AGENT/RUN-ID.",
            )
        return {"run_started_us": started_us}

    async def _require_incident(self, wanted: Wanted) -> None:
        """Raises ChangeRefused for an incident that nobody could look up."""
        tenant, incident_id = wanted.tenant, wanted.incident_id
        if not incident_id:
            return
        try:
            found = await self._store.incident(tenant, incident_id)
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        if found is None:
            raise ChangeRefused(
                "unknown_incident",
                f"{tenant} has no incident {incident_id!r}",
                "`incidents list` shows them.",
            )

    async def _end_what_is_lifted(self, wanted: Wanted, at_us: int) -> None:
        """The same containment of an agent whom somebody has let go by other means: it holds
        nothing any more, and must not keep the agent from being contained anew."""
        view = self._registry.view(wanted.tenant)
        if view is None or wanted.action not in OF_STANDING:
            return
        agent = view.agents.get(wanted.subject.agent)
        for row in view.containments:
            is_same = row.action == wanted.action.value and row.subject == wanted.subject.agent
            if is_same and agent is not None and after(agent.state, MOVES[wanted.action]):
                why = "somebody has let the agent go meanwhile"
                await self._ended(row, UNDONE, "containment.undo", at_us, wanted.actor, why)

    async def _kept(self, tenant: str, containment_id: str) -> ContainmentRow:
        try:
            row = await self._store.containment(tenant, containment_id)
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error
        if row is None:
            raise ChangeRefused(
                "unknown_containment",
                f"{tenant} has no containment {containment_id!r}",
                "`containments list` shows them.",
            )
        return row

    async def _now_us(self) -> int:
        try:
            return await self._store.clock_us()
        except StoreError as error:
            raise ChangeRefused(error.code, str(error), error.next_step) from error

    def _contains(self, row: ContainmentRow, seq: int | None) -> Contains:
        action = action_of(row)
        if action not in OF_STANDING:
            return Contains(row, seq)
        agent = self._registry.agent(row.tenant_id, row.subject)
        return Contains(row, seq, "" if agent is None else agent.state.value)
