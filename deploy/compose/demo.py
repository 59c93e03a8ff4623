"""The demo of compose.yaml: the tools that are protected, and an agent that keeps calling them.

Runs on the image's own Python. The tools are those of `aegis-sidecar demo`; the agent reads orders,
refunds, asks for a refund that is too large, and calls what nobody declared, once a second through
each sidecar in turn, so that the dashboards have something to show.

DEMO_SIDECARS      base URLs of the sidecars, blanks between them
DEMO_AGENT_TOKEN   what the agent sends as Aegis-Token
DEMO_TOOLS_HOST    where the tools listen: 0.0.0.0 unless set
DEMO_TOOLS_PORT    at which port: 8090 unless set
DEMO_PAUSE_S       seconds between two calls: 1 unless set
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal

import aiohttp

from sidecar.demo.tool_server import ToolServer

TIMEOUT_S = 30.0
#: Method, path, JSON body: what the agent does over and over.
CALLS = (
    ("GET", "/shop/orders/1001", None),
    ("GET", "/shop/orders/1002", None),
    ("POST", "/shop/orders/1001/refund", {"amount_cents": 1200, "note": "broken"}),
    ("POST", "/shop/orders/1002/refund", {"amount_cents": 99900, "note": "all of it"}),
    ("DELETE", "/shop/orders/1002", None),
)


async def call_on(sidecars: list[str], token: str, pause_s: float) -> None:
    """Calls until it is cancelled; says what each answer was."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers = {"Aegis-Token": token}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as agent:
        for url, (method, path, body) in zip(
            itertools.cycle(sidecars), itertools.cycle(CALLS), strict=False
        ):
            try:
                async with agent.request(method, url + path, json=body) as answer:
                    await answer.read()
                    said = str(answer.status)
            except (aiohttp.ClientError, TimeoutError) as error:
                said = f"no answer: {error!r}"
            print(f"{method} {url}{path}: {said}", flush=True)  # noqa: T201
            await asyncio.sleep(pause_s)


async def main() -> None:
    """Until SIGTERM or SIGINT."""
    environ = os.environ
    tools = ToolServer()
    await tools.start(
        int(environ.get("DEMO_TOOLS_PORT", "8090")),
        environ.get("DEMO_TOOLS_HOST", "0.0.0.0"),  # noqa: S104 - in a network of its own
    )
    pause_s = float(environ.get("DEMO_PAUSE_S", "1"))
    sidecars = environ["DEMO_SIDECARS"].split()
    calling = asyncio.ensure_future(call_on(sidecars, environ["DEMO_AGENT_TOKEN"], pause_s))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, calling.cancel)
    try:
        await calling
    except asyncio.CancelledError:
        pass
    finally:
        await tools.stop()


if __name__ == "__main__":
    asyncio.run(main())
