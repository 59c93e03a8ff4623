"""The public keys of an issuer of tokens (RFC 7517), fetched without keeping calls waiting.

Knows: that one fetch runs at a time and is bounded in time and size; that a key nobody has heard of
makes it fetch again, though not more often than `REFETCH_S`; that what was last fetched counts on
while the issuer is down, up to `KEEP_S`. A key counts for the algorithms of its kind alone.
Must not know: what a token says.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp.abc import AbstractResolver

    from sidecar.clock import Clock

_log = logging.getLogger("aegis.identity")

FETCH_S: Final = 5.0
KEYS_BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 100
#: Keys older than this are fetched again while they are used; nobody waits for that.
REFRESH_S: Final = 300.0
#: How soon an unknown key, or a failure, may lead to another fetch.
REFETCH_S: Final = 10.0
#: How long keys count while their issuer cannot be asked.
KEEP_S: Final = 24 * 3600.0
RSA_BITS_MIN: Final = 2048

#: The algorithms that are taken at all (RFC 7518, RFC 8037), and the kind of key each needs.
KIND_OF: Final = {
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
}

#: Gives the body at a URL; raises OSError, TimeoutError, ValueError.
Fetch = Callable[[str], Awaitable[bytes]]


class KeySet:
    """Of one issuer. All is done on the event loop's thread."""

    def __init__(self, url: str, clock: Clock, fetch: Fetch) -> None:
        self._url = url
        self._clock = clock
        self._fetch = fetch
        self._keys: tuple[dict[str, Any], ...] = ()
        self._made: dict[tuple[str | None, str], Any] = {}
        self._read_ns: int | None = None
        self._tried_ns: int | None = None
        self._running: asyncio.Task[None] | None = None
        #: Another number whenever the keys are others.
        self.generation = 0
        self.failures_total = 0
        #: Whether the issuer did not answer when it was last asked.
        self.is_failing = False

    def find(self, kid: str | None, algorithm: str) -> Any | None:
        """The one key that a token names and that its algorithm needs; None if there is none, or
        if it is not known which. Begins a fetch where the keys are getting old."""
        if self.is_too_old:
            return None
        self.refresh()
        made = self._made.get((kid, algorithm))
        if made is None:
            fitting = [key for key in self._keys if _fits(key, kid, algorithm)]
            if len(fitting) != 1:
                return None
            made = self._made[kid, algorithm] = _made(fitting[0], algorithm)
        return made

    def refresh(self) -> None:
        """Begins a fetch where the keys are getting old: whoever uses them asks for that, also by a
        token that was verified before, since its key may have been withdrawn."""
        if self._is_older_than(REFRESH_S) and self.may_fetch:
            _ = self._begin()

    @property
    def age_s(self) -> float | None:
        """How long ago they were fetched; None if they never were."""
        read_ns = self._read_ns
        return None if read_ns is None else (self._clock.monotonic_ns() - read_ns) / 1e9

    @property
    def is_too_old(self) -> bool:
        """Whether there are no keys, or none that still count."""
        return self._read_ns is None or self._is_older_than(KEEP_S)

    @property
    def may_fetch(self) -> bool:
        """Whether it is worth to ask the issuer again."""
        if self._running is not None:
            return True
        tried_ns = self._tried_ns
        return tried_ns is None or self._clock.monotonic_ns() - tried_ns > REFETCH_S * 1e9

    async def fetch(self) -> None:
        """Asks the issuer, with whoever else waits for that. Raises nothing: what was there stays
        if that fails."""
        await asyncio.shield(self._begin())

    async def close(self) -> None:
        """Ends a fetch under way."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _is_older_than(self, age_s: float) -> bool:
        read_ns = self._read_ns
        return read_ns is not None and self._clock.monotonic_ns() - read_ns > age_s * 1e9

    def _begin(self) -> asyncio.Task[None]:
        if self._running is None:
            self._tried_ns = self._clock.monotonic_ns()
            self._running = asyncio.get_running_loop().create_task(self._ask(), name="jwks")
            self._running.add_done_callback(self._ended)
        return self._running

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._running = None

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(FETCH_S):
                keys = _read(await self._fetch(self._url))
        except (OSError, TimeoutError, ValueError, RecursionError) as error:
            self.failures_total += 1
            self.is_failing = True
            _log.warning(
                "the keys of an issuer cannot be fetched; those fetched last count on for a while",
                extra={"url": self._url, "cause": f"{type(error).__name__}: {error}"[:200]},
            )
            return
        self.is_failing = False
        self._read_ns = self._clock.monotonic_ns()
        if keys != self._keys:
            self._keys, self._made = keys, {}
            self.generation += 1


class BadToken(Exception):
    """The token does not hold; `reason` is for operators. `is_guess` is false where nobody can say
    whether it holds, for its issuer does not answer."""

    def __init__(self, reason: str, *, is_guess: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_guess = is_guess


class KeysWanted(Exception):
    """The key that the token names is not known: await `fetch` of these and read it again."""

    def __init__(self, keys: KeySet) -> None:
        super().__init__("keys are wanted")
        self.keys = keys


@cache
def _context() -> SSLContext:
    """Made once: to read the system's authorities takes some milliseconds."""
    from sidecar.verifying_tls import verifying_context  # here, as aiohttp below

    return verifying_context()


@cache
def _names() -> AbstractResolver:
    """Who looks issuers up; one, so that a name which hangs is looked up once at a time."""
    from sidecar.lookups import OwnThreadResolver

    return OwnThreadResolver()


async def fetched(url: str) -> bytes:
    """The body at a URL, by HTTP GET: no redirects, no cookies, no proxy of the environment.

    Raises OSError, TimeoutError; ValueError for an answer that is none, or too large.
    """
    import aiohttp

    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_names()),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            ) as session,
            session.get(
                url,
                ssl=_context(),
                allow_redirects=False,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            ) as reply,
        ):
            if reply.status != 200:
                raise ValueError(f"status {reply.status}")
            body = b""
            async for piece in reply.content.iter_any():
                body += piece
                if len(body) > KEYS_BYTES_MAX:
                    raise ValueError(f"more than {KEYS_BYTES_MAX} bytes")
            return body
    except aiohttp.ClientError as error:
        raise OSError(str(error)) from error


def _read(body: bytes) -> tuple[dict[str, Any], ...]:
    said = json.loads(body)
    keys = said.get("keys") if isinstance(said, dict) else None
    if not isinstance(keys, list) or len(keys) > KEYS_MAX:
        raise ValueError("no key set")
    return tuple(key for key in keys if isinstance(key, dict))


def _fits(key: dict[str, Any], kid: str | None, algorithm: str) -> bool:
    kind, curve = KIND_OF[algorithm]
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("alg", algorithm) == algorithm
        and key.get("use", "sig") == "sig"
        and (kid is None or key.get("kid") == kid)
        and "d" not in key  # whoever publishes a private key has lost it
    )


def _made(key: dict[str, Any], algorithm: str) -> Any | None:
    import jwt

    try:
        made = jwt.PyJWK(key, algorithm).key
    except (jwt.exceptions.PyJWTError, ValueError, TypeError):
        return None
    if KIND_OF[algorithm][0] == "RSA" and made.key_size < RSA_BITS_MIN:
        return None
    return made
