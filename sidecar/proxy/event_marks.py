"""Events of an MCP server's stream that are no messages, as the agent may have them. Pure.

Knows: which of them clients read over, and which tells them to go elsewhere.
Must not know: messages, streams, how a refusal is told.
"""

from __future__ import annotations

from typing import Final

from sidecar.errors import Refused
from sidecar.proxy.events import Event

#: What servers on the TypeScript SDK keep of the event without data by which a stream begins; one
#: that is resumed repeats it, and no client finds anything in it but the event's id.
_NOTHING: Final = b"{}"
_ENDPOINT: Final = b"endpoint"


def of_its_own(event: Event) -> bytes:
    """An event of a type of its own, with text of its own; raises Refused for the one that tells a
    client of revision 2024-11-05 where to send its messages: past the sidecar."""
    if event.kind == _ENDPOINT:
        raise _unchecked(
            "the server speaks HTTP+SSE, the transport of revision 2024-11-05, by which an agent's "
            "messages go elsewhere; `url` has to be its address for streamable HTTP"
        )
    return event.raw


def without_message(event: Event) -> bytes:
    """What passes of an event that should be a message; raises Refused."""
    if event.data.strip() == _NOTHING:
        return event.without_data()
    raise _unchecked("an event holds no JSON-RPC message")


def _unchecked(why: str) -> Refused:
    return Refused("answer_unchecked", f"The answer cannot be checked: {why}")
