"""What rules oblige to, where the agent acts itself and the sidecar sees neither request nor reply.

Knows: that a value that is to be masked is named to the agent, which masks it before it acts; that
an idempotency key is the request's id; and that whatever only a proxy can do is refused, and not
left undone.
Must not know: rules, records, HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sidecar.authorize.request import AuthorizeRequest
from sidecar.errors import Refused
from sidecar.model import ToolCall
from sidecar.policy.terms import Obligations


class Obliged(NamedTuple):
    """The call as it may be recorded and shown, and the parameters that its agent has to mask."""

    shown: ToolCall
    redacted: tuple[str, ...] = ()


def obliged(
    call: ToolCall,
    request: AuthorizeRequest,
    wanted: Obligations,
    recordable: Callable[[], ToolCall],
) -> Obliged:
    """What becomes of a call that may go ahead; `recordable` gives it as it may be recorded, and is
    asked where something is to be masked.

    Raises Refused: unmet_obligation, idempotency_key_required, unredactable_request.
    """
    if wanted.touches_response or wanted.set_headers or wanted.remove_headers:
        raise Refused("unmet_obligation")
    if wanted.needs_idempotency_key and request.request_id is None:
        raise Refused("idempotency_key_required", "This call needs a request_id")
    if not wanted.request:
        return Obliged(call)
    shown = recordable()
    if type(request.parameters) is not dict and shown.args != call.args:
        raise Refused("unredactable_request", "The parameters are no object")
    redacted = []
    for name, value in call.args.items():
        if name not in shown.args:
            raise Refused("unredactable_request", "The name of a parameter would have to be masked")
        if shown.args[name] != value:
            redacted.append(name)
    return Obliged(shown, tuple(redacted))
