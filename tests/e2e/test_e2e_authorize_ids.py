"""The ids that /v1/authorize gives, carried by a person to wherever an id is asked for."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from running import Process

from sidecar.kept_id import kept_id

CATALOGUE = "catalogue: payments\ntools: {refund: {args: {cents: int}}}\n"
POLICY = """policy: p
rules: [{id: asks, effect: require_approval, tools: payments/refund}]
"""
ASKED = {
    "agent": {"id": "agent", "environment": "production"},
    "tool_call": {
        "tool": "payments", "action": "refund", "resource": None, "mutates_state": True,
        "parameters": {"cents": 9000},
    },
    "context": {
        "source_trust": "trusted_internal_unsigned", "contains_sensitive_data": False,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("01a2306f-08b5-7857-891e-8fe474f420df", "01a2306f08b57857891e8fe474f420df"),
        ("01a2306f08b57857891e8fe474f420df", "01a2306f08b57857891e8fe474f420df"),
        ("01A2306F-08b5-7857-891e-8fe474f420df", "01A2306F-08b5-7857-891e-8fe474f420df"),
        ("login-acme", "login-acme"),
        ("", ""),
    ],
)
def test_only_the_dashes_of_a_uuid_are_taken_out(given: str, kept: str) -> None:
    assert kept_id(given) == kept


def ask(url: str, key: str = "", body: Any = None) -> Any:
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as reply:
        return json.load(reply)


def test_an_id_as_an_agent_has_it_opens_what_it_names(tmp_path: Path) -> None:
    sidecar = Process(tmp_path)
    sidecar.write("  payments: {kind: authorize}", {"tools.yaml": CATALOGUE, "policy.yaml": POLICY})
    sidecar.start()
    where = ("--data-dir", str(sidecar.folder))
    try:
        said = ask(f"{sidecar.url}/v1/authorize", body=ASKED)
        decision, approval = said["decision_id"], said["approval"]["approval_id"]
        assert "-" in decision and "-" in approval, "as agents get them"
        shown = sidecar.cli("approvals", "show", approval, *where)
        assert shown.returncode == 0 and kept_id(approval) in shown.stdout, shown.stderr
        yes = sidecar.cli("approvals", "approve", approval, *where)
        assert yes.returncode == 0 and "approved" in yes.stdout, yes.stderr
        made = sidecar.cli("keys", "create", "ana", "--role", "admin", "--json", *where)
        (key,) = [one for one in json.loads(made.stdout).values() if str(one).startswith("tenant_")]
        for path in ("", "/run", "/explanation"):
            found = ask(f"{sidecar.control_url}/v1/decisions/{decision}{path}", key)
            assert found, path
        assert (
            sidecar.cli(
                "policy", "explain", "--id", decision, "--config", str(sidecar.config)
            ).returncode
            == 0
        )
    finally:
        sidecar.stop()
    erase = ("store", "erase", "--config", str(sidecar.config), "--dry-run", "--call")
    assert "facts of 0 calls" in sidecar.cli(*erase, "0" * 32).stdout, "negative control"
    would = sidecar.cli(*erase, decision)
    assert would.returncode == 0 and "nothing is there to erase" not in would.stdout, would
