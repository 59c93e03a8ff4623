"""A webhook: the body as it is, signed, so that whoever receives it knows that we sent it.

Knows: the signature is over the time and the very bytes of the body, so that neither can be changed
and nothing old can be sent again unnoticed.
Must not know: when it is tried again.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import orjson

from sidecar.soc.sinks.http_post import Poster
from sidecar.soc.sinks.seam import Outgoing

if TYPE_CHECKING:
    from sidecar.config.settable import Secret

ID_HEADER: Final = "Aegis-Delivery"
TIME_HEADER: Final = "Aegis-Timestamp"
SIGNATURE_HEADER: Final = "Aegis-Signature"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`v1=` and the HMAC-SHA256 of `timestamp "." body` in hex."""
    said = timestamp.encode("ascii") + b"." + body
    return f"v1={hmac.digest(secret.encode(), said, 'sha256').hex()}"


class WebhookSink:
    """See `seam.Sink`."""

    def __init__(self, poster: Poster, secret: Secret, now_us: Callable[[], int]) -> None:
        self._poster = poster
        self._secret = secret
        self._now_us = now_us

    async def send(self, delivery: Outgoing) -> None:
        """See `Sink.send`."""
        body = orjson.dumps(delivery.said, option=orjson.OPT_SORT_KEYS)
        timestamp = str(self._now_us() // 1_000_000)
        headers = {
            ID_HEADER: delivery.delivery_id,
            TIME_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self._secret.reveal(), timestamp, body),
        }
        await self._poster.post(body, headers)

    async def close(self) -> None:
        """See `Sink.close`."""
        await self._poster.close()
