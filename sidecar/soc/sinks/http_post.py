"""Posts JSON to a URL, once: no redirect, no cookie, no proxy, a small answer, a short time.

Knows: which answers are a yes (2xx) and which a no for good (410); that an answer, and what goes
wrong on the way, is repeated to operators without the URL, which is a secret.
Must not know: what is posted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import sidecar
from sidecar.soc.sinks.connecting import Way
from sidecar.soc.sinks.seam import ANSWER_BYTES_MAX, ATTEMPT_S, NotDelivered
from sidecar.telemetry.logs import SecretMask

if TYPE_CHECKING:
    import aiohttp

    from sidecar.config.sinks import SinkPlace

CONNECTIONS_MAX: Final = 8
#: The longest rest that a sink may ask for.
WAIT_MAX_S: Final = 3600.0
_GONE: Final = 410
_ANSWER_SHOWN: Final = 120


class Poster:
    """For one sink."""

    def __init__(self, place: SinkPlace, way: Way) -> None:
        self._place = place
        self._way = way
        self._session: aiohttp.ClientSession | None = None
        self._mask = SecretMask(_secret_parts(place.url))

    async def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Comes back when the other side has taken it; raises NotDelivered."""
        import aiohttp  # only for those who post

        self._way.require_allowed()
        try:
            async with asyncio.timeout(ATTEMPT_S):
                tls = await self._way.context() if self._place.scheme == "https" else True
                async with self._opened().post(
                    self._place.url, data=body, headers=headers, allow_redirects=False, ssl=tls
                ) as reply:
                    answer = await reply.content.read(ANSWER_BYTES_MAX)
                    if not reply.content.at_eof():
                        reply.close()  # the rest is nobody's concern
                    text = self._mask(answer.decode("utf-8", "replace").strip())
                    _require_taken(reply.status, reply.headers.get("Retry-After", ""), text)
        except TimeoutError:
            raise NotDelivered(f"no answer within {ATTEMPT_S:g} s") from None
        except aiohttp.ClientConnectorCertificateError:
            raise NotDelivered("its certificate is not trusted") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotDelivered(f"not reached: {_reason(error)}") from None

    async def close(self) -> None:
        """Nothing is posted any more."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._way.resolver,
                    limit=CONNECTIONS_MAX,
                    force_close=True,  # whether a kept one is still good is known too late
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=ATTEMPT_S),
                auto_decompress=False,
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": f"aegis-sidecar/{sidecar.__version__}",
                },
            )
        return self._session


def _secret_parts(url: str) -> list[str]:
    """What of a URL a receiver may repeat and nobody else may read."""
    parts = urlsplit(url)
    pieces = [*parts.path.split("/"), *re.split("[&=]", parts.query)]
    return [url, *pieces]


def _require_taken(status: int, retry_after: str, said: str) -> None:
    if 200 <= status < 300:
        return
    what = f"it answered {status}" + (f": {said[:_ANSWER_SHOWN]}" if said else "")
    if 300 <= status < 400:
        what = f"it answered {status}; a redirect is not followed"
    digits = retry_after if retry_after.isascii() and retry_after.isdigit() else ""
    wait_s = min(WAIT_MAX_S, float(digits[:6] or 0))
    raise NotDelivered(what, is_final=status == _GONE, wait_s=wait_s)


def _reason(error: Exception) -> str:
    """Of an error of a library its kind, and the system's own words: no address, no URL."""
    inner = getattr(error, "os_error", error)
    words = getattr(inner, "strerror", None)
    return f"{type(error).__name__}: {words}" if isinstance(words, str) else type(error).__name__
