"""What an agent may say only once, as the store knows it: request ids and nonces.

Knows: that a name is good for a day; that a request id is bound to all that the decision rests on
of the request, so that it stands for that one request and no other; that a nonce has to be new and
nothing else; that who records has the last word, for two may say the same at once.
Must not know: HTTP, rules, how anything is recorded.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, Protocol

from sidecar.authorize.request import AuthorizeRequest
from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.ledger.canonical import canonical_arguments
from sidecar.ledger.delegations import refused_by
from sidecar.model import Principal
from storage.errors import StoreError
from storage.standing import OnceRow

#: For how long a request is answered from its record, and a nonce refused.
LIFE_US: Final = 24 * 3600 * 1_000_000
#: How far a timestamp may be from now, either way.
CLOCK_SKEW_US: Final = 300 * 1_000_000

REQUEST: Final = "request"
NONCE: Final = "nonce"


class ReadsOnce(Protocol):
    """What is needed of a store."""

    async def said_once(
        self, tenant_id: str, agent_id: str, kind: str, name: str
    ) -> OnceRow | None:
        """What was said of this kind and name, over or not."""
        ...


class Repeats:
    """One for a sidecar."""

    def __init__(self, store: ReadsOnce, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def require_now(self, request: AuthorizeRequest) -> None:
        """Raises Refused("replay_timestamp_expired") for a request with a nonce and a time that is
        too far from now."""
        if request.nonce is None or request.timestamp_us is None:
            return
        if abs(request.timestamp_us - self._clock.now_us()) > CLOCK_SKEW_US:
            raise Refused("replay_timestamp_expired")

    async def look(
        self,
        principal: Principal,
        request: AuthorizeRequest,
        call_id: str,
        action_hash: str,
        run_id: str,
    ) -> tuple[tuple[OnceRow, ...], OnceRow | None]:
        """What this request says once, to be put with its decision; and, of a request that was
        decided before, what was said then. `run_id` is that of the run it is of, "" where nothing
        trusted divides the agent's work.

        Raises Refused: replay_nonce_reused, request_id_reused, store_unavailable.
        """
        if request.nonce is None and request.request_id is None:
            return (), None
        rows = []
        now_us = self._clock.steady_us()
        if request.nonce is not None:
            stands = await self._said(principal, NONCE, request.nonce)
            if stands is not None and stands.until_us > now_us:
                raise Refused("replay_nonce_reused")
            rows.append(self._row(principal, NONCE, request.nonce, "", call_id, stands, now_us))
        if request.request_id is not None:
            bound = bound_hash(request, action_hash, run_id)
            stands = await self._said(principal, REQUEST, request.request_id)
            if stands is not None and stands.until_us > now_us:
                if stands.bound != bound:
                    raise Refused("request_id_reused")
                return (), stands
            rows.append(
                self._row(principal, REQUEST, request.request_id, bound, call_id, stands, now_us)
            )
        return tuple(rows), None

    async def _said(self, principal: Principal, kind: str, name: str) -> OnceRow | None:
        try:
            return await self._store.said_once(principal.tenant, principal.agent, kind, name)
        except StoreError as error:
            raise refused_by(error) from error

    def _row(
        self,
        principal: Principal,
        kind: str,
        name: str,
        bound: str,
        call_id: str,
        stands: OnceRow | None,
        now_us: int,
    ) -> OnceRow:
        version = 1 if stands is None else stands.version + 1
        return OnceRow(
            principal.tenant, principal.agent, kind, name, version, bound, call_id, now_us + LIFE_US
        )


def bound_hash(request: AuthorizeRequest, action_hash: str, run_id: str) -> str:
    """A hash of all that the decision rests on of a request: the action, what its agent says of
    its sources and for whom he acts, and the run it is of. Not of what may differ when it is sent
    again."""
    of_run = {"run": run_id} if run_id else {}
    return sha256(
        canonical_arguments(
            {
                "action_hash": action_hash,
                "source_trust": request.source_trust,
                "root_trust_level": request.root_trust_level,
                "contains_sensitive_data": request.contains_sensitive_data,
                "environment": request.environment,
                "agent": request.agent_id,
                "user": [request.user_id, request.user_role],
                **of_run,
            }
        )
    ).hexdigest()
