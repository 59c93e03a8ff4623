"""Makes the control API over the rooms of a composition that has listeners.

Knows: which rooms the API speaks with. Part of the composition root, apart from what a composition
without listeners needs: this brings HTTP with it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.control.api.backroom import Backroom
from sidecar.control.api.mount import Api
from sidecar.control.api.rooms import (
    AgentChanges,
    ApprovalDesk,
    Checkpoints,
    Doorman,
    KeyChanges,
    Rooms,
)
from sidecar.control.api.table import ROUTES
from sidecar.control.state import ControlState
from sidecar.policy_files import PolicyKeeper
from sidecar.proxy.described_request import route_request
from sidecar.rooms import policy_loader
from storage.sql_store import SqlReader


def made_api(
    stack: AsyncExitStack,
    config: Config,
    clock: Clock,
    *,
    doorman: Doorman,
    state: ControlState,
    reader: SqlReader,
    policies: PolicyKeeper,
    agents: AgentChanges | None = None,
    keys: KeyChanges | None = None,
    approvals: ApprovalDesk | None = None,
    checkpoints: Checkpoints | None = None,
) -> Api:
    """The API; `reader` has connections that no decision waits for. A room that is None is one
    this sidecar does not keep."""
    backroom = Backroom()
    stack.callback(backroom.close)
    rooms = Rooms(
        config=config,
        clock=clock,
        doorman=doorman,
        state=state,
        reader=reader,
        policies=policies,
        load=policy_loader(config),
        route_request=route_request,
        backroom=backroom,
        agents=agents,
        keys=keys,
        approvals=approvals,
        checkpoints=checkpoints,
    )
    return Api(rooms, ROUTES)
