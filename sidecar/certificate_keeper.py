"""Keeps the TLS context of a listener: made at start, and anew when its files' content changes.

Knows: that files are looked at by polling, in a worker thread; that a certificate and a key that
do not belong together (one is written before the other) never replace a pair that works.
Must not know: sockets, what is served.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Final

from sidecar.config.certificates import Material, listener_context
from sidecar.config.listener_tls import material_of
from sidecar.config.model import Listen, ListenerTls
from sidecar.errors import StartRefused

POLL_S: Final = 5.0

_log = logging.getLogger("aegis.tls")


class CertificateKeeper:
    """`context` is for new connections; those that are open keep theirs.

    For metrics: `expires_us` of the certificate in force, and `reload_succeeded`, False while
    what the files hold now cannot be used. `on_change` is called with each new context.
    """

    def __init__(self, listener: str, tls: ListenerTls) -> None:
        """Raises StartRefused if there is nothing to serve with."""
        self.listener = listener
        self._tls = tls
        self.on_change: Callable[[ssl.SSLContext], None] | None = None
        self.reload_succeeded = True
        try:
            self._tried: Material | str = material_of(tls)
            self.context, self.expires_us = listener_context(self._tried)
        except (ValueError, OSError) as error:
            raise StartRefused(f"listen.{listener}.tls: {error}") from error

    async def run(self) -> None:
        """Looks every few seconds, for ever; cancel it to end it."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.look()

    async def look(self) -> bool:
        """One look; whether another context is in force. What failed is tried again only when it
        is another."""
        found = await asyncio.to_thread(self._read)
        if found == self._tried:
            return False
        self._tried = found
        try:
            if isinstance(found, str):
                raise ValueError(found)
            made = await asyncio.to_thread(listener_context, found)
        except ValueError as error:
            self.reload_succeeded = False
            _log.error(
                "a certificate cannot be used; the one before stays",
                extra={"listener": self.listener, "detail": str(error)},
            )
            return False
        self.context, self.expires_us = made
        self.reload_succeeded = True
        _log.info("a certificate is in force", extra={"listener": self.listener})
        if self.on_change is not None:
            self.on_change(self.context)
        return True

    def _read(self) -> Material | str:
        """What is there, or why it cannot be read."""
        try:
            return material_of(self._tls)
        except (ValueError, OSError) as error:
            return str(error)


class Certificates:
    """Those of the two listeners; None for one that speaks plain HTTP."""

    def __init__(self, listen: Listen) -> None:
        """Raises StartRefused."""
        self.data = _keeper("data", listen.data.tls)
        self.control = _keeper("control", listen.control.tls)
        self.all = tuple(one for one in (self.data, self.control) if one is not None)

    async def run(self) -> None:
        """Looks at all of them, for ever; cancel it to end it."""
        await asyncio.gather(*(one.run() for one in self.all))


def _keeper(listener: str, tls: ListenerTls | None) -> CertificateKeeper | None:
    return None if tls is None else CertificateKeeper(listener, tls)
