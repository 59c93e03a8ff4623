"""Who is signed in: a cookie that stands for a key, for as long as the key counts.

Knows: that the key is asked about again at every request, so that one that is revoked or has run
out ends its sessions at once; that a cookie's value is kept as a hash, and that a form proves by a
token of its session that it is one of our pages'. Sessions are of this process and end with it.
Must not know: HTTP, what a page shows.
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sidecar.identity.tokens import sha256_of

if TYPE_CHECKING:
    from sidecar.clock import Clock
    from sidecar.control.api.rooms import Doorman
    from sidecar.model import Person

TOKEN_BYTES: Final = 32
#: Signed in at the same time; the one that was idle longest makes room.
SESSIONS_MAX: Final = 1_000
#: The same of one key, so that nobody signs the others out.
SESSIONS_OF_A_KEY_MAX: Final = 20
#: Without a request of a person's for so long, or after so long in any case, the key has to be
#: shown again.
IDLE_S: Final = 2 * 3600.0
LIFE_S: Final = 12 * 3600.0


@dataclass(slots=True)
class Session:
    """One browser that is signed in. `notice` is told once, on the next page."""

    authorization: str
    csrf: str
    began_ns: int
    seen_ns: int
    notice: str = ""

    def __repr__(self) -> str:
        return "Session(…)"

    def is_ours(self, token: str) -> bool:
        """Whether a form's token is this session's; compared in constant time."""
        return hmac.compare_digest(self.csrf.encode(), token.encode())


class Sessions:
    """All of one sidecar. Everything is done on the event loop's thread."""

    def __init__(self, doorman: Doorman, clock: Clock) -> None:
        self._doorman = doorman
        self._clock = clock
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    async def begin(self, key: str, address: str) -> str | None:
        """The value of a cookie for whoever shows a key; None if the key is nobody's or has no
        role. Raises StoreError."""
        authorization = f"Bearer {key}"
        person = await self._doorman.person(authorization, address)
        if person is None or not person.roles:
            return None
        token = self._drawn()
        now_ns = self._clock.monotonic_ns()
        self._sessions[sha256_of(token)] = Session(authorization, self._drawn(), now_ns, now_ns)
        own = [name for name, one in self._sessions.items() if one.authorization == authorization]
        for name in own[:-SESSIONS_OF_A_KEY_MAX]:
            del self._sessions[name]
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return token

    async def find(
        self, token: str, address: str, *, by_itself: bool = False
    ) -> tuple[Session, Person] | None:
        """The session of a cookie, and who that is by now; None if it is over. What a page asks for
        `by_itself` keeps nobody signed in who has left it open. Raises StoreError."""
        name = sha256_of(token)
        session = self._sessions.get(name)
        if session is None:
            return None
        now_ns = self._clock.monotonic_ns()
        idle_s, life_s = (now_ns - session.seen_ns) / 1e9, (now_ns - session.began_ns) / 1e9
        person = None
        if idle_s < IDLE_S and life_s < LIFE_S:
            person = await self._doorman.person(session.authorization, address)
        if person is None or not person.roles:
            self._sessions.pop(name, None)
            return None
        if by_itself:
            return session, person
        session.seen_ns = now_ns
        if name in self._sessions:
            self._sessions.move_to_end(name)
        return session, person

    def end(self, token: str) -> None:
        """Signs out. Idempotent."""
        self._sessions.pop(sha256_of(token), None)

    def _drawn(self) -> str:
        drawn = self._clock.random_bytes(TOKEN_BYTES)
        return base64.urlsafe_b64encode(drawn).decode().rstrip("=")
