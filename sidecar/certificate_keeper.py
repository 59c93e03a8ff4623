"""Keeps TLS contexts: made at start, and anew when the content of the files behind them changes.

Knows: that files are looked at by polling, in a worker thread; that a certificate and a key that
do not belong together (one is written before the other) never replace a pair that works.
Must not know: sockets, what is served.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from sidecar.config.certificates import Material, expiry_us, listener_context
from sidecar.config.listener_tls import material_of
from sidecar.config.model import Listen, ListenerTls, Upstream, UpstreamTls
from sidecar.config.upstream_tls import ClientMaterial, client_context, client_material
from sidecar.errors import StartRefused

POLL_S: Final = 5.0

_log = logging.getLogger("aegis.tls")

M = TypeVar("M")


class _Keeper(Generic[M]):
    """What a context is made of: looked at, and taken over when it is another and of use.

    `reload_succeeded` is False while what the files hold now cannot be used. `_whose` says in the
    log whose context it is.
    """

    context: ssl.SSLContext
    reload_succeeded = True

    def __init__(self, key: str, whose: Mapping[str, str]) -> None:
        """Raises StartRefused, which names `key`, if there is nothing to begin with."""
        self._whose = whose
        try:
            self._tried: M | str = self._material()
            self._take(self._tried)
        except (ValueError, OSError) as error:
            raise StartRefused(f"{key}: {error}") from error

    async def run(self) -> None:
        """Looks every few seconds, for ever; cancel it to end it."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.look()
            except Exception:
                # A fault of ours: it is told at each look, and must not be the last one.
                self._tried, self.reload_succeeded = "", False
                _log.exception("looking at a certificate failed", extra=dict(self._whose))

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
            await asyncio.to_thread(self._take, found)
        except (ValueError, OSError) as error:
            self.reload_succeeded = False
            if isinstance(error, OSError):  # nothing about the files, which are taken over later
                self._tried = ""
            _log.error(
                "a certificate cannot be used; the one before stays",
                extra={**self._whose, "detail": str(error)},
            )
            return False
        self.reload_succeeded = True
        _log.info("a certificate is in force", extra=dict(self._whose))
        return True

    def _read(self) -> M | str:
        """What is there, or why it cannot be read."""
        try:
            return self._material()
        except (ValueError, OSError) as error:
            return str(error)

    @abstractmethod
    def _material(self) -> M:
        """What is there now; raises OSError and ValueError."""

    @abstractmethod
    def _take(self, material: M) -> None:
        """Makes the context of it and puts it in force; raises ValueError."""


class CertificateKeeper(_Keeper[Material]):
    """The context of a listener, for new connections; those that are open keep theirs.

    `expires_us` is that of the certificate in force. `on_change` is called with each new context.
    """

    def __init__(self, listener: str, tls: ListenerTls) -> None:
        """Raises StartRefused if there is nothing to serve with."""
        self.listener = listener
        self._tls = tls
        self.on_change: Callable[[ssl.SSLContext], None] | None = None
        super().__init__(f"listen.{listener}.tls", {"listener": listener})

    async def look(self) -> bool:
        """As above; whoever serves with the context is told."""
        is_other = await super().look()
        if is_other and self.on_change is not None:
            self.on_change(self.context)
        return is_other

    def _material(self) -> Material:
        return material_of(self._tls)

    def _take(self, material: Material) -> None:
        self.context, self.expires_us = listener_context(material)


class UpstreamKeeper(_Keeper[ClientMaterial]):
    """The context of connections to an upstream; those that are open keep theirs.

    `expires_us` is that of the certificate that is shown to it, None where none is.
    """

    expires_us: int | None = None

    def __init__(self, upstream: Upstream) -> None:
        """Raises StartRefused if nothing can be made of what there is."""
        self.upstream = upstream.name
        self.tls = upstream.tls
        super().__init__(f"upstreams.{upstream.name}.tls", {"upstream": upstream.name})

    def _material(self) -> ClientMaterial:
        return client_material(self.tls)

    def _take(self, material: ClientMaterial) -> None:
        self.context = client_context(material)
        self.expires_us = expiry_us(material.cert) if material.cert is not None else None


class Certificates:
    """Those of the two listeners, None for one that speaks plain HTTP, and of the upstreams whose
    `tls` names files."""

    def __init__(self, listen: Listen, upstreams: Mapping[str, Upstream]) -> None:
        """Raises StartRefused."""
        self.data = _keeper("data", listen.data.tls)
        self.control = _keeper("control", listen.control.tls)
        self.all = tuple(one for one in (self.data, self.control) if one is not None)
        self.of_upstreams = tuple(
            UpstreamKeeper(upstream) for upstream in upstreams.values() if _has_files(upstream.tls)
        )

    def contexts(self) -> dict[UpstreamTls, Callable[[], ssl.SSLContext]]:
        """By the `tls` of an upstream, what gives the context of its next connection."""

        def of(keeper: UpstreamKeeper) -> Callable[[], ssl.SSLContext]:
            return lambda: keeper.context

        return {keeper.tls: of(keeper) for keeper in self.of_upstreams}

    async def run(self) -> None:
        """Looks at all of them, for ever; cancel it to end it."""
        listeners = (one.run() for one in self.all)
        await asyncio.gather(*listeners, *(one.run() for one in self.of_upstreams))


def _has_files(tls: UpstreamTls) -> bool:
    return any(pem is not None and pem.path is not None for pem in (tls.ca, tls.cert, tls.key))


def _keeper(listener: str, tls: ListenerTls | None) -> CertificateKeeper | None:
    return None if tls is None else CertificateKeeper(listener, tls)
