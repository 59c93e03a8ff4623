"""Makes the rooms of the authorize API over those that the proxy has already.

Knows: which of them it shares with the proxy: rates, runs, the queue, so that an agent's calls
count together whichever way they come. Part of the composition root.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.approvals.service import Approvals
from sidecar.authorize.approvals_line import ApprovalsLine
from sidecar.authorize.asking import Questions
from sidecar.authorize.callers import AgentCallers
from sidecar.authorize.consuming import Consuming
from sidecar.authorize.door import APPROVALS, AUTHORIZE, CONSUME, AuthorizeDoor, Routes
from sidecar.authorize.judging import AuthorizeJudging
from sidecar.authorize.line import AuthorizeLine, Rooms
from sidecar.authorize.repeats import Repeats
from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.identity.callers import Callers
from sidecar.ledger.delegations import Delegations
from sidecar.ledger.entries import Entries
from sidecar.ledger.fence import Fence
from sidecar.ledger.pin_keeper import PinKeeper
from sidecar.ledger.recorder import Recorder
from sidecar.ledger.run_keeper import RunKeeper
from sidecar.policy_files import PolicyKeeper
from sidecar.proxy.held_bodies import HeldBodies
from sidecar.proxy.masked_calls import Masking
from sidecar.proxy.pinned_tools import PinnedTools
from sidecar.proxy.rates import Rates
from sidecar.proxy.redaction import Redactor
from sidecar.telemetry.counters import Counters
from storage import SqlStore
from storage.write_queue import WriteQueue


@dataclass(frozen=True, slots=True)
class Shared:
    """What the proxy's way has too."""

    config: Config
    clock: Clock
    policies: PolicyKeeper
    callers: Callers
    recorder: Recorder
    runs: RunKeeper
    pins: PinKeeper
    counters: Counters
    fence: Fence
    masking: Masking
    rates: Rates = field(default_factory=Rates)


def made_authorize(
    shared: Shared,
    queue: WriteQueue,
    store: SqlStore,
    boot_id: str,
    approvals: Approvals,
    bodies: HeldBodies,
) -> AuthorizeDoor:
    """What agents use of `/v1`; `bodies` are the proxy's too, and have one bound."""
    config, clock, counters = shared.config, shared.clock, shared.counters
    redact = Redactor(config.record.secrets).arguments
    keeps_arguments = config.record.arguments == "redacted"
    entries = Entries(
        clock,
        node_id=store.node_id,
        boot_id=boot_id,
        redact=redact,
        keeps_arguments=keeps_arguments,
    )
    registry = shared.callers.registry
    identify = AgentCallers(shared.callers.authenticator)
    questions = Questions(
        approvals, config.approvals, store, redact=redact, keeps_arguments=keeps_arguments
    )

    def count_unrecorded() -> None:
        shared.recorder.unrecorded_refusals += 1

    delegations = Delegations(queue, entries, shared.fence, count_unrecorded)
    judging = AuthorizeJudging(
        delegations=delegations, registry=registry, runs=shared.runs, rates=shared.rates,
        counters=counters, clock=clock, fence=shared.fence,
        pinned=PinnedTools(shared.pins, config.upstreams),
        speak_mcp=[name for name, one in config.upstreams.items() if one.kind == "mcp"],
        masking=shared.masking,
    )  # fmt: skip
    line = AuthorizeLine(
        Rooms(
            config=config, policies=shared.policies, identify=identify,
            registry=registry, judging=judging, delegations=delegations,
            recorder=shared.recorder, repeats=Repeats(store, clock), reader=store,
            asks=questions, counters=counters, clock=clock,
        )
    )  # fmt: skip
    waiting = ApprovalsLine(
        identify=identify, policies=shared.policies, delegations=delegations,
        consuming=Consuming(
            config=config, approvals=approvals, reader=store, judging=judging, clock=clock
        ),
        recorder=shared.recorder, counters=counters, clock=clock, limits=config.limits,
        registry=registry, people=shared.callers.doorman, knows=identify.knows,
    )  # fmt: skip
    routes: Routes = {
        ("POST", (AUTHORIZE,)): line.authorize,
        ("GET", (APPROVALS, "*")): waiting.poll,
        ("POST", (APPROVALS, "*", CONSUME)): waiting.consume,
    }
    return AuthorizeDoor(routes, config.limits, bodies, counters, clock, identify.knows)
