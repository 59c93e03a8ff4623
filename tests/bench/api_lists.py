"""How long the API's answers take over a store with very many calls, page by page, over HTTP.

Client and sidecar share one process and one event loop, so the figures are upper bounds. Each kind
of page is asked for in turn with the others, from the beginning of the list and from deep in it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "api"))

import api_store
from api_setup import Served, key_of, served_api

from sidecar.control.api.times import time_text

PAGES = {
    "decisions": "/v1/decisions",
    "decisions_200": "/v1/decisions?limit=200",
    "decisions_of_agent": "/v1/decisions?agent_id=agent-3",
    "decisions_refused": "/v1/decisions?decision=deny&code=policy_deny",
    "decisions_rare": "/v1/decisions?agent_id=rare",
    "decisions_of_nobody": "/v1/decisions?agent_id=nobody&tool=shop/none",
    "decisions_of_run": "/v1/decisions?run_id=run-1",
    "shadow_differences": "/v1/policies/shadow/differences",
    "receipts": "/v1/receipts?limit=200",
    "receipts_newest": "/v1/receipts?order=newest&limit=200",
    "audit": "/v1/audit/events",
    "approvals": "/v1/approvals",
    "agents": "/v1/agents",
    "stats": "/v1/stats",
}


#: Pages of the console, whose line is another.
CONSOLE = {
    "console_overview": "",
    "console_calls": "/calls",
    "console_refused": "/calls?decision=deny",
    "console_approvals": "/approvals",
    "console_agents": "/agents",
    "console_tools": "/tools",
    "console_policies": "/policies",
    "console_shadow": "/policies/shadow",
    "console_receipts": "/receipts",
    "console_changes": "/changes",
    "console_store": "/store",
}


def quantile(values: list[float], share: float) -> float:
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def measure(url: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of each kind of page: median and p99 over so many rounds."""
    with tempfile.TemporaryDirectory() as folder:
        async with served_api(Path(folder), url) as served:
            paths = dict(PAGES)
            paths |= await _deep(served)
            paths |= await _console(served, paths["decision"].rpartition("/")[2])
            for path in paths.values():
                await _timed(served, path)  # statements are prepared, pages are read once
            took: dict[str, list[float]] = {name: [] for name in paths}
            for _ in range(rounds):
                for name, path in paths.items():
                    took[name].append(await _timed(served, path))
            found = {
                name: {
                    "p50_ms": round(quantile(ms, 0.5), 2),
                    "p99_ms": round(quantile(ms, 0.99), 2),
                }
                for name, ms in took.items()
            }
            return {
                "receipts": (await served.store.head(api_store.TENANT)).seq,
                "worst_p99_ms": _worst(found, is_console=False),
                "worst_console_p99_ms": _worst(found, is_console=True),
                "pages": found,
                "rare": await _rare(served),
            }


def _worst(found: dict[str, dict[str, float]], *, is_console: bool) -> float:
    return max(
        one["p99_ms"] for name, one in found.items() if (name.startswith("console_")) is is_console
    )


async def _console(served: Served, call_id: str) -> dict[str, str]:
    """The console's pages, for a browser that is signed in: the client keeps its cookie."""
    paths = {name: f"/console{path}" for name, path in CONSOLE.items()}
    agent = "coder-acme"
    paths["console_agent"] = f"/console/agents/{agent}"
    paths["console_call"] = f"/console/calls/{call_id}"
    async with served.client.post(
        f"{served.url}/console/sign-in", data={"key": key_of(api_store.TENANT, "admin")},
        headers={"Origin": served.url}, allow_redirects=False,
    ) as answer:  # fmt: skip
        assert answer.status == 303, await answer.text()
        (cookie,) = answer.cookies.values()
    served.client.headers["Cookie"] = f"{cookie.key}={cookie.value}"
    return paths


async def _deep(served: Served) -> dict[str, str]:
    """Pages from the middle of the chain: by cursor, by number, by time, by id."""
    middle = (await served.store.head(api_store.TENANT)).seq // 2
    row = (await served.store.receipts(api_store.TENANT, middle, 1))[0]
    at = time_text(row.ts_us)
    _, _, headers = await served.ask(f"/v1/decisions?to={at}")
    return {
        "decisions_until": f"/v1/decisions?to={at}",
        "decisions_deep": f"/v1/decisions?to={at}&cursor={headers['X-Next-Cursor']}",
        "receipts_deep": f"/v1/receipts?after={middle}&limit=200",
        "decision": f"/v1/decisions/{row.call_id}",
    }


async def _rare(served: Served) -> dict[str, Any]:
    """How a filter that fits three calls at the very beginning is followed to them."""
    pages, found, cursor, worst, began = 0, 0, "", 0.0, time.perf_counter()
    while True:
        started = time.perf_counter()
        mark = f"&cursor={cursor}" if cursor else ""
        _, body, headers = await served.ask(f"/v1/decisions?agent_id=rare{mark}")
        worst = max(worst, time.perf_counter() - started)
        pages, found = pages + 1, found + len(body)
        cursor = headers.get("X-Next-Cursor", "")
        if not cursor:
            break
    assert found == api_store.RARE_CALLS, found
    return {
        "pages": pages,
        "seconds": round(time.perf_counter() - began, 2),
        "worst_page_ms": round(worst * 1000, 2),
    }


async def _timed(served: Served, path: str) -> float:
    started = time.perf_counter()
    status, body, _ = await served.ask(path)
    assert status == 200 and b"Your key" not in (body if isinstance(body, bytes) else b""), body
    return (time.perf_counter() - started) * 1000


async def run(url: str, calls: int, rounds: int) -> dict[str, Any]:
    """Fills a store and measures."""
    began = time.perf_counter()
    await api_store.fill(url, calls)
    filled_s = time.perf_counter() - began
    return {"calls": calls, "filled_s": round(filled_s, 1), **await measure(url, rounds)}


if __name__ == "__main__":
    import json

    print(json.dumps(asyncio.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))), indent=1))
