"""Makes the control API, the console and their listener over the rooms of a composition that has
listeners.

Knows: which rooms they speak with. Part of the composition root, apart from what a composition
without listeners needs: this brings HTTP with it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import cache

from sidecar.approvals.service import Approvals
from sidecar.authorize.control_mount import agents_first
from sidecar.authorize.door import AuthorizeDoor
from sidecar.authorize_rooms import Shared
from sidecar.certificate_keeper import CertificateKeeper
from sidecar.clock import Clock
from sidecar.config.model import Config
from sidecar.control.api.backroom import Backroom
from sidecar.control.api.cursors import KEY_BYTES, Cursors
from sidecar.control.api.mount import Api
from sidecar.control.api.reading import Reading
from sidecar.control.api.rooms import Rooms
from sidecar.control.api.table import ROUTES, written_document
from sidecar.control.caller_care import CallerCare
from sidecar.control.console.mount import Console
from sidecar.control.run_care import RunCare
from sidecar.control.server import ControlServer
from sidecar.control.socket import ControlSocket
from sidecar.control.state import ControlState
from sidecar.control.tool_care import ToolCare
from sidecar.identity.callers import Callers
from sidecar.listening import OwnListeners
from sidecar.policy_files import PolicyKeeper
from sidecar.proxy.described_request import paths_of, routing
from sidecar.rooms import policy_loader
from sidecar.write_path import LOOK_UP_CONNECTIONS, opened_reader
from storage import SqlStore

__all__ = ["CallerCare", "ControlState", "RunCare", "ToolCare", "begun_control", "made_api"]


async def made_api(
    stack: AsyncExitStack,
    config: Config,
    clock: Clock,
    state: ControlState,
    policies: PolicyKeeper,
    callers: Callers,
    approvals: Approvals,
    store: SqlStore,
) -> tuple[Api, Console]:
    """Both, with connections that no decision waits for. Raises a StoreError."""
    backroom = Backroom(has_tenants=len(config.tenants) > 1)
    stack.callback(backroom.close)
    reader = await opened_reader(stack, config)
    rooms = Rooms(
        config=config,
        clock=clock,
        doorman=callers.doorman,
        changes=callers.changes,
        containing=callers.containing,
        approvals=approvals,
        state=state,
        reader=reader,
        reading=Reading(reader, LOOK_UP_CONNECTIONS),
        policies=policies,
        load=policy_loader(config),
        route_request=routing(paths_of(config.upstreams)),
        backroom=backroom,
        document=_document,
    )
    # Kept by the store, so that a list goes on after a restart and on every node.
    key = await store.keep("api_cursors", clock.random_bytes(KEY_BYTES).hex())
    console = Console(rooms, is_secure=config.listen.control.tls is not None)
    return Api(rooms, ROUTES, Cursors(bytes.fromhex(key))), console


async def begun_control(
    stack: AsyncExitStack,
    rooms: Shared,
    state: ControlState,
    approvals: Approvals,
    store: SqlStore,
    keeper: CertificateKeeper | None,
    authorize: AuthorizeDoor,
    ourselves: OwnListeners,
) -> None:
    """The control listener with API and console, and the socket of the command line, until the
    stack ends. Raises StartRefused or a StoreError."""
    config = rooms.config
    api, console = await made_api(
        stack, config, rooms.clock, state, rooms.policies, rooms.callers, approvals, store
    )
    context = keeper.context if keeper is not None else None
    before = [agents_first(authorize, config.limits)]
    server = ControlServer(config.listen.control, state, context, api, before, console)
    if keeper is not None:
        keeper.on_change = server.speak
    await server.start()
    ourselves.add(server.listening)
    stack.push_async_callback(server.stop)
    socket = ControlSocket(config.data_dir, state)
    await socket.start()
    stack.push_async_callback(socket.stop)


@cache
def _document() -> bytes:
    """What is said of the API to programs: seldom asked for, and long in the making."""
    from sidecar.authorize.described import described

    return written_document(described())
