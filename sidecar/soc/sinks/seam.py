"""What a sink is: it takes one delivery, or says why not.

Knows: what is sent, and what may come of it. A sink keeps nothing: what is not delivered is tried
again by others, with the same id.
Must not know: stores, when it is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from sidecar.policy.printable import printable
from sidecar.soc.model import Severity

#: One attempt, from looking up a name to the end of the answer.
ATTEMPT_S: Final = 8.0
#: Of what a sink answers, so much is read, and so much of that is kept.
ANSWER_BYTES_MAX: Final = 4096
SAID_CHARACTERS_MAX: Final = 200


class Outgoing(NamedTuple):
    """One delivery on its way. `said` is the whole body; its members may hold what agents and tools
    said."""

    delivery_id: str
    kind: str
    severity: Severity
    tenant: str
    at_us: int
    said: Mapping[str, Any]


class NotDelivered(Exception):
    """Why not, in words fit for an operator. `is_final`: the sink says that it never will;
    `wait_s`: it asks for so long a rest."""

    def __init__(self, said: str, *, is_final: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(said)
        self.said = printable(said)[:SAID_CHARACTERS_MAX]
        self.is_final = is_final
        self.wait_s = wait_s


class Sink(Protocol):
    """One that is told. Made without asking anybody; what it needs it opens when it is needed."""

    async def send(self, delivery: Outgoing) -> None:
        """Delivers it, within ATTEMPT_S; raises NotDelivered."""
        ...

    async def close(self) -> None:
        """Nothing is sent any more."""
        ...
