"""Standard output: a line of JSON for each delivery, for whoever gathers what containers print.

Knows: that a line is one line, whatever agents and tools said.
Must not know: the stream, how long it takes.
"""

from __future__ import annotations

import asyncio

from sidecar.soc.sinks.seam import ATTEMPT_S, NotDelivered, Outgoing
from sidecar.telemetry.lines import Lines, LinesFull, json_line


class StdoutSink:
    """See `seam.Sink`."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def send(self, delivery: Outgoing) -> None:
        """See `Sink.send`."""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._lines.write(json_line(delivery.said))
        except (TimeoutError, LinesFull):
            raise NotDelivered("standard output is not read") from None
        except (OSError, ValueError) as error:
            raise NotDelivered(f"standard output: {type(error).__name__}") from None

    async def close(self) -> None:
        """See `Sink.close`."""
        self._lines.close()
