"""How long `policy replay` takes over very many recorded calls, as a user runs it.

    bash tests/full.sh replay [CALLS]        (default 100,000)

Calls are judged by real rules (structured, comparisons, CEL) and recorded as the pipeline records
them; then a folder in which one rule is another is held against them. What must come of it is known
beforehand, so that a replay which passes calls over is a violation, as is one that takes too long.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

from bench_machine import commit, machine
from full_report import tell

import storage
from sidecar.clock import Clock
from sidecar.errors import Refused
from sidecar.ledger.chain import seal
from sidecar.ledger.drafts import call_draft
from sidecar.ledger.receipt import blank_receipt
from sidecar.model import Effect, HttpFacts, Principal, ToolCall
from sidecar.policy.case_runner import entry_of
from sidecar.policy.decide import decide
from sidecar.policy.load import SECRETS, Source, load_policies
from sidecar.proxy.redaction import Redactor
from storage.records import Entry

CALLS = 100_000
LINE_S = 60.0
_BATCH = 500
TOOLS = """catalogue: shop
tools:
  get: GET /orders/{id}
  refund: {route: "POST /orders/{id}/refund", risk: high}
  mail: POST /mail
"""
POLICY = """policy: p
rules:
  - {id: reads, effect: allow, tools: shop/get}
  - {id: small, effect: allow, tools: shop/refund, when: args.amount <= 50}
  - id: ours
    effect: allow
    tools: shop/mail
    when: args.to.exists(one, one.endsWith("@acme.io"))
"""
#: Of the refunds, whose amounts go from 1 to 100, those of 21 to 50 come out otherwise.
OTHER = POLICY.replace("<= 50", "<= 20")
_DIFFERENT = range(21, 51)
_ARGUMENTS: tuple[tuple[str, Any], ...] = (
    ("shop/get", lambda number: {"id": str(number)}),
    ("shop/refund", lambda number: {"amount": _amount(number), "id": "7", "note": "n" * 200}),
    ("shop/mail", lambda number: {"to": ["a@x.org", f"b{number}@acme.io"], "text": "t" * 200}),
)


def _amount(number: int) -> int:
    return number // len(_ARGUMENTS) % 100 + 1


def different_of(calls: int) -> int:
    """How many of so many calls the other policy decides otherwise."""
    return sum(number % 3 == 1 and _amount(number) in _DIFFERENT for number in range(calls))


async def fill(url: str, calls: int) -> None:
    """Records them, with an outcome for each that went ahead."""
    clock = Clock()
    sources = [Source(f"f{n}.yaml", text.encode()) for n, text in enumerate((TOOLS, POLICY))]
    rules = load_policies(
        sources, upstreams={"shop": "rest"}, default="deny", read_file=lambda *_: b""
    ).policy_set
    assert rules is not None
    redact, principal = Redactor(SECRETS).arguments, Principal("acme", "coder", team="platform")

    def entries(number: int) -> Iterator[Entry]:
        name, arguments = _ARGUMENTS[number % len(_ARGUMENTS)]
        http = HttpFacts("POST", "/orders/7", "", "127.0.0.1", {})
        call = ToolCall(
            clock.new_id(), entry_of(rules.catalogue, name).tool, "POST", arguments(number), http,
            "", (), b"{}", "rest",
        )  # fmt: skip
        at_us = clock.now_us()
        decision = decide(rules, principal, call, at_us)
        goes_ahead = decision.effect is Effect.ALLOW
        receipt, facts = call_draft(
            "intent" if goes_ahead else "refusal", principal, call, decision,
            None if goes_ahead else Refused(decision.code, decision.reason), ts_us=at_us,
            nonce=clock.random_bytes(16), arguments=redact(call.args), keeps_arguments=True,
        )  # fmt: skip
        yield Entry(receipt, facts)
        if goes_ahead:
            yield Entry(
                blank_receipt(
                    "acme", "outcome", event_id=clock.new_id(), call_id=call.call_id,
                    ts_us=clock.now_us(), agent_id="coder", outcome="completed", http_status=200,
                )
            )  # fmt: skip

    store = await storage.open_store(url, now_us=clock.now_us, node_id="filling")
    try:
        for start in range(0, calls, _BATCH):
            batch = [
                entry
                for number in range(start, min(start + _BATCH, calls))
                for entry in entries(number)
            ]
            await store.record(batch, seal)
            await store.after_commit()
    finally:
        await store.close()


def run(folder: Path, calls: int) -> dict[str, Any]:
    """Figures of one replay."""
    url = f"sqlite:///{folder / 'aegis.db'}"
    asyncio.run(fill(url, calls))
    (folder / "tools.yaml").write_text(TOOLS)
    (folder / "policy.yaml").write_text(OTHER)
    command = [sys.executable, "-m", "sidecar.cli.main", "policy", "replay", "--json"]
    command += ["--store", url, "--with", str(folder / "tools.yaml")]
    command += ["--with", str(folder / "policy.yaml")]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=600)
    took_s = time.perf_counter() - started
    if done.returncode != 1:
        return {"violations": [f"exit {done.returncode}: {done.stderr[-500:]}"]}
    said = json.loads(done.stdout)
    wanted = {"same": calls - different_of(calls), "different": different_of(calls)}
    found = {name: said[name] for name in wanted} | {"not_judged": said["not_judged"]}
    wrong = [] if found == wanted | {"not_judged": 0} else [f"{found}, not {wanted}"]
    return {"calls": calls, "seconds": round(took_s, 2), **found, "violations": wrong}


def main() -> int:
    """1 if calls were passed over or judged wrongly, or it took longer than its line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=CALLS, help="calls")
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aegis-replay-") as name:
        found = run(Path(name), options.size)
    if found.get("seconds", 0.0) > LINE_S * options.size / CALLS:
        found["violations"].append(f"{found['seconds']} s for {options.size} calls")
    report = {"commit": commit(), "machine": machine(), "line_s": LINE_S, **found}
    return tell(report, options.results)


if __name__ == "__main__":
    sys.exit(main())
