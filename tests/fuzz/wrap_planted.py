"""`wrap` with a fault built in, to prove that the fuzz run finds it. Never part of the product.

lenient-json      lines are read by Python's json: the last of two equal names wins
carriage-return   a CR inside of a line is taken for a blank
no-record         every 20th line is forwarded without an intent
inner-words       refusals tell the parser's words
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import fuzz_planted

from sidecar.cli.main import main
from sidecar.errors import Refused
from sidecar.proxy.dialects.mcp_message import RpcRefused, read_message
from sidecar.proxy.stdio import message, session


def carriage_return() -> None:
    def read_line(line: bytes, depth_max: int, values_max: int) -> message.Incoming:
        try:
            return message.Incoming(line, read_message(line, depth_max, values_max))
        except RpcRefused as refused:
            return message.Incoming(line, refused.message)

    send = session.StdioSession.send

    async def sending(self: Any, upstream: Any, *rest: Any) -> Any:
        body = rest[-1]
        if b"\r" not in body:
            return await send(self, upstream, *rest)
        exchange = self._of_task[asyncio.current_task()]
        await self._child.tell(body)
        exchange.was_told = True
        exchange.passed.set()
        raise Refused("upstream_broken")

    session.read_line = read_line  # type: ignore[attr-defined]
    session.StdioSession.send = sending  # type: ignore[method-assign]


FAULTS = {
    "lenient-json": fuzz_planted.lenient_json,
    "carriage-return": carriage_return,
    "no-record": fuzz_planted.no_record,
    "inner-words": fuzz_planted.inner_words,
}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    sys.exit(main(sys.argv[1:]))
